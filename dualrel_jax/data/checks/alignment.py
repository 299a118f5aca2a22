"""Whether labels lie where their image shows outlines; no model is needed."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.utils.ranges import central_window

# Agreement of outlines in units of what chance gives (the 99.9 percentile over all shifts), measured on Lucchi, VNC and
# both phantoms: true labels of 4 slices 1.7 to 13, of one small slice 0.66 or more; labels of another slice 0.1 to 1.5.
_BY_CHANCE = 1.6
_NO_AGREEMENT = 0.5
_BETTER = 1.5  # times the agreement in place; with true labels nothing is more than 1.2 times better
_NEAR = 2  # pixels that labels may be off: Lucchi's are by 1 to 2 at 5 nm
_ENOUGH = 200  # outline pixels; fewer prove nothing
_SIDE = 1024  # of the middle of a slice that is compared, pixels

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
    images, labels = ([_middle(at(z)) for z in zs] for at in (part.image_at, part.label_at))
    if sum(outline(label).sum() for label in labels) < _ENOUGH:
        return None
    seen = see(images)
    everywhere = agreement(seen, labels)
    here, chance = _near(everywhere), float(np.quantile(everywhere, 0.999))
    y, x = np.unravel_index(everywhere.argmax(), everywhere.shape)
    y, x = (int(at - size if at > size // 2 else at) for at, size in zip((y, x), everywhere.shape, strict=True))
    others = {f"moved by {y} pixels in y and {x} in x": float(everywhere.max())}
    if here < _BY_CHANCE * chance:
        for name, turn in _TURNS.items():
            turned = [turn(label) for label in labels]
            if turned[0].shape == images[0].shape:
                others[name] = _near(agreement(seen, turned))
    for name, step in (("moved to the slice before", -1), ("moved to the slice after", 1)):
        if all(0 <= z + step < len(part.image) for z in zs):
            others[name] = _near(agreement(see([_middle(part.image_at(z + step)) for z in zs]), labels))
    best = max(others, key=others.get)
    if others[best] > max(_BETTER * here, _BY_CHANCE * chance):
        return f"would fit {others[best] / here:.1f} times better if {best}"
    if here < _NO_AGREEMENT * chance:
        return "have outlines that follow nothing in it"
    return None


class Seen(NamedTuple):
    """Features that follow outlines: brightness, gradient and Laplacian, each of mean 0 and deviation 1.

    Lucchi's outlines lie on a dark membrane, where the gradient is least, and VNC's beside one, where it is largest.
    """

    spectra: list[np.ndarray]  # of each slice: 3 y x, Fourier transforms
    covariance: np.ndarray  # 3 3, summed over all pixels


def see(images: Sequence[np.ndarray]) -> Seen:
    """Images y x of one shape."""
    spectra, covariance = [], np.zeros((3, 3))
    for image in images:
        filters = ndimage.gaussian_filter, ndimage.gaussian_gradient_magnitude, ndimage.gaussian_laplace
        features = np.stack([filtered(image.astype(np.float32), 1.5) for filtered in filters])
        features -= features.mean((1, 2), keepdims=True)
        features /= np.maximum(features.std((1, 2), keepdims=True), 1e-6)  # a slice may be blank
        spectra.append(fft.rfft2(features))
        covariance += np.einsum("iyx,jyx->ij", features, features)
    return Seen(spectra, covariance)


def agreement(seen: Seen, labels: Sequence[np.ndarray]) -> np.ndarray:
    """How well the images explain the outlines of the labels, for every shift of these: y x, R^2 of a linear fit."""
    cross, variance = 0.0, 0.0
    for spectrum, label in zip(seen.spectra, labels, strict=True):
        lines = outline(label).astype(np.float32)
        lines -= lines.mean()
        cross += fft.irfft2(spectrum * fft.rfft2(lines).conj(), lines.shape)
        variance += (lines**2).sum()
    return (cross * np.tensordot(np.linalg.pinv(seen.covariance), cross, 1)).sum(0) / variance


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
