"""Whether labels lie where their image shows outlines; no model is needed."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.padding import away_from_padding
from dualrel_jax.utils.ranges import central_window

# Agreement of outlines in units of what chance gives (the 99.9 percentile over all shifts), measured on Lucchi, VNC and
# both phantoms: true labels of 4 slices 1.7 to 13, of one small slice 0.66 or more; labels of another slice 0.1 to 1.5.
_BY_CHANCE = 1.6
_NO_AGREEMENT = 0.5
# Of one mask another place that fits 1.5 times better reaches 1.5 in 804 true masks (four tissues, whole and quartered
# slices), and 2.01 where these are grown by 3 pixels.
_BY_CHANCE_ALONE = 2.2
_BETTER = 1.5  # times the agreement in place; with true labels nothing is more than 1.2 times better
_NEAR = 2  # pixels that labels may be off: Lucchi's are by 1 to 2 at 5 nm
_ENOUGH = 200  # outline pixels; fewer prove nothing
_SIDE = 1024  # of the middle of a slice that is compared, pixels
_SIGMA, _TRUNCATE = 1.5, 4.0  # of the filters that see outlines: pixels, and standard deviations that they see

_TURNS = {
    "mirrored in y": np.flipud,
    "mirrored in x": np.fliplr,
    "turned by 180 degrees": lambda label: label[::-1, ::-1],
    "transposed (y and x exchanged)": np.transpose,
    "turned by 90 degrees": np.rot90,
    "turned by -90 degrees": lambda label: np.rot90(label, -1),
}


def misplacement(part: Part, zs: Sequence[int]) -> str | None:
    """What is wrong with the place of the labels of slices `zs`, to follow "the labels ..."; None where nothing is.

    Tried are all shifts in y and x, mirrored and turned labels, and the slices before and after.
    """
    part = dataclasses.replace(part, pixel_nm=None)  # at the pixels of the volume
    visible = _see_with_outlines(part, zs)
    if visible is None:
        return None
    seen, lines = visible
    here, chance, others = _agreements(seen, lines)
    for name, step in (("moved to the slice before", -1), ("moved to the slice after", 1)):
        if all(0 <= z + step < len(part.image) for z in zs):
            others[name] = _near(agreement(see([_middle(part.image_at(z + step)) for z in zs]), lines))
    if better := _better(here, others, _BY_CHANCE * chance):
        return better
    if here < _NO_AGREEMENT * chance:
        return "have outlines that follow nothing in it"
    return None


def misplaced_masks(part: Part, zs: Sequence[int]) -> dict[int, str]:
    """z -> what is wrong with the place of its label, to follow "the labels ..."; what a single mask can prove."""
    part = dataclasses.replace(part, pixel_nm=None)
    misplaced = {}
    for z in zs:
        if visible := _see_with_outlines(part, [z]):
            here, chance, others = _agreements(*visible)
            if better := _better(here, others, _BY_CHANCE_ALONE * chance):
                misplaced[z] = better
    return misplaced


def _better(here: float, others: dict[str, float], least: float) -> str | None:
    """The place that agrees best, if that is clearly better than in place, and than `least`."""
    best = max(others, key=others.get)
    if others[best] <= max(_BETTER * here, least):
        return None
    return f"would fit {others[best] / here:.1f} times better if {best}"


def _see_with_outlines(part: Part, zs: Sequence[int]) -> tuple["Seen", list[np.ndarray]] | None:
    """What the slices show, and the outlines of their labels; None where these are too short to prove anything."""
    images, labels = ([_middle(at(z)) for z in zs] for at in (part.image_at, part.label_at))
    if sum(outline(label).sum() for label in labels) < _ENOUGH:
        return None
    seen = see(images)
    return seen, [centred_outline(label, tissue) for label, tissue in zip(labels, seen.tissues, strict=True)]


def _agreements(seen: "Seen", lines: Sequence[np.ndarray]) -> tuple[float, float, dict[str, float]]:
    """Agreement in place, that which chance gives, and those of other places: the best shift, mirrored and turned."""
    everywhere = agreement(seen, lines)
    here, chance = _near(everywhere), float(np.quantile(everywhere, 0.999))
    y, x = np.unravel_index(everywhere.argmax(), everywhere.shape)
    y, x = (int(at - size if at > size // 2 else at) for at, size in zip((y, x), everywhere.shape, strict=True))
    others = {f"moved by {y} pixels in y and {x} in x": float(everywhere.max())}
    if here < _BY_CHANCE * chance:
        for name, turn in _TURNS.items():
            turned = [turn(line) for line in lines]
            if turned[0].shape == lines[0].shape:
                others[name] = _near(agreement(seen, turned))
    return here, chance, others


class Seen(NamedTuple):
    """Features that follow outlines: brightness, gradient and Laplacian, each of mean 0 and deviation 1; 0 at padding.

    Lucchi's outlines lie on a dark membrane, where the gradient is least, and VNC's beside one, where it is largest.
    """

    spectra: list[np.ndarray]  # of each slice: 3 y x, Fourier transforms
    covariance: np.ndarray  # 3 3, summed over all pixels
    tissues: list[np.ndarray]  # of each slice: bool y x, what is away from padding


def see(images: Sequence[np.ndarray]) -> Seen:
    """Images y x of one shape."""
    spectra, covariance, tissues = [], np.zeros((3, 3)), []
    for image in images:
        filters = ndimage.gaussian_filter, ndimage.gaussian_gradient_magnitude, ndimage.gaussian_laplace
        features = np.stack([filtered(image.astype(np.float32), _SIGMA, truncate=_TRUNCATE) for filtered in filters])
        tissue = away_from_padding(image, _TRUNCATE * _SIGMA)
        if tissue.any():  # a slice may be blank
            features -= features[:, tissue].mean(1)[:, None, None]
            features /= np.maximum(features[:, tissue].std(1), 1e-6)[:, None, None]
        features *= tissue
        spectra.append(fft.rfft2(features))
        covariance += np.einsum("iyx,jyx->ij", features, features)
        tissues.append(tissue)
    return Seen(spectra, covariance, tissues)


def agreement(seen: Seen, outlines: Sequence[np.ndarray]) -> np.ndarray:
    """How well the images explain the centred outlines, for every shift of these: y x, R^2 of a linear fit."""
    cross, variance = 0.0, 0.0
    for spectrum, lines in zip(seen.spectra, outlines, strict=True):
        cross += fft.irfft2(spectrum * fft.rfft2(lines).conj(), lines.shape)
        variance += (lines**2).sum()
    return (cross * np.tensordot(np.linalg.pinv(seen.covariance), cross, 1)).sum(0) / max(variance, 1e-6)


def centred_outline(label: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Label y x -> float32 y x: its outline, of mean 0 in the tissue, and 0 beside it.

    Else a shift of labels against padded tissue would agree with whatever is bright or dark on one side of a slice.
    """
    lines = outline(label).astype(np.float32)
    return (lines - lines[tissue].mean()) * tissue if tissue.any() else 0 * lines


def outline(label: np.ndarray) -> np.ndarray:
    """Label y x -> bool y x: foreground pixels beside others."""
    mask = label == 1
    return mask ^ ndimage.binary_erosion(mask, border_value=1)


def _near(agreement: np.ndarray) -> float:
    """The best within a shift of _NEAR pixels."""
    shifts = range(-_NEAR, _NEAR + 1)
    return float(agreement.take(shifts, 0, mode="wrap").take(shifts, 1, mode="wrap").max())


def _middle(slice_yx: np.ndarray) -> np.ndarray:
    return slice_yx[central_window(slice_yx.shape, _SIDE)]
