"""Rules that notice what people get wrong in their images and labels; thresholds are measured, not guessed."""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.checks.alignment import misplacement
from dualrel_jax.data.datasets.labels import number_in
from dualrel_jax.data.datasets.own import for_each, open_label, split_paths
from dualrel_jax.data.datasets.registry import PIXEL_NM, Part
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.utils.ranges import central_window, evenly_spaced
from dualrel_jax.utils.text import format_shape

_WINDOW = 1024  # side of the middle of a slice that is looked at, pixels
_SLICES = 24  # looked at in a volume, spread over z

# With what was measured on Lucchi, VNC and the two phantoms.
_FLAT = (0.5, 0.9)  # share of pixels equal to their right neighbour: 0.02 to 0.03 in EM, above 0.99 in labels
_CORRELATION_GAP = 0.1  # correlation of neighbours along z minus that along y or x: at most 0.01; axes swapped, 0.24+
_VOXEL_OFF = 0.01  # share by which a voxel size may differ from that of the file: both are rounded
_FOREGROUND = (0.002, 0.6)  # share of labelled pixels: 0.05 to 0.07, of a single slice 0.015 to 0.15
# Side of a crop: 480 nm of Lucchi (pixels of 5 nm) gave a JAC of 76, 1920 nm (20 nm) one of 86 (supervised, size tiny).
_NARROW_NM, _WIDE_NM = 1000, 2000


@dataclass(frozen=True)
class Finding:
    """One sentence for the user; with `look`, something that seems wrong, and its remedy."""

    text: str
    look: bool = False

    def __str__(self) -> str:
        return f"{'look:' if self.look else 'ok:  '} {self.text}"


def check_kinds(data: ConfigDict, image_key: str, label_key: str) -> Generator[Finding, None, bool]:
    """Tells images from labels by how often neighbouring pixels are equal; returns whether labels are none."""
    unusable = False
    images, labels = (split_paths(data[key]) for key in (image_key, label_key))
    listed = for_each(data.labelled_slices if label_key == "label" else "", len(images), "data.labelled_slices")
    for image_path, label_path, zs in zip(images, labels, listed, strict=False):
        volume = open_volume(image_path, verbose=False)
        image, label = _flatness(volume), _flatness(open_label(label_path, volume, zs, verbose=False))
        unusable |= label < _FLAT[0]
        if label < _FLAT[0] and image > _FLAT[1]:
            yield Finding(
                f"{image_path} looks like labels and {label_path} like an image (neighbouring pixels are equal in "
                f"{image:.0%} and {label:.0%} of places): exchange data.{image_key} and data.{label_key}.",
                look=True,
            )
        elif label < _FLAT[0]:
            yield Finding(
                f"{label_path} looks like an image or a probability, not like labels (neighbouring pixels are equal in "
                f"{label:.0%} of places, expected over {_FLAT[1]:.0%}): name the labels with data.{label_key}.",
                look=True,
            )
        elif image > _FLAT[1]:
            yield Finding(
                f"{image_path} looks like labels, not like an image (neighbouring pixels are equal in {image:.0%} of "
                f"places): name the image with data.{image_key}.",
                look=True,
            )
    return unusable


def check_image(part: Part, data: ConfigDict) -> Iterator[Finding]:
    """What the file says, and its voxel size, the numbers of its slices, constant ones and the order of axes."""
    image = part.image
    yield Finding(f"{image.describe()}{_origin(part, data)}; intensities {part.range[0]:g} to {part.range[1]:g}.")
    yield from check_voxel(image, part.name)
    yield from _check_numbers(image)
    zs = evenly_spaced(part.zs, _SLICES)
    constant = [z for z in zs if np.ptp(_middle(image, z).astype(float)) == 0]
    if constant:
        yield Finding(
            f"{len(constant)} of {len(zs)} slices looked at hold one grey value only (z = "
            f"{list_words(constant[:6])}): leave them out (data.train_slices=a:b), or export the volume again.",
            look=True,
        )
    yield from _axes(image, evenly_spaced([z for z in zs if z not in constant], 8))


def _origin(part: Part, data: ConfigDict) -> str:
    """Where the voxel size of a labelled volume comes from."""
    if part.image.voxel_nm is None or not part.labelled_zs:
        return ""
    key = "test_voxel_nm" if part.name.endswith("/test") else "voxel_nm"
    if data.name != "own" and not (key == "test_voxel_nm" and data.test_image):
        return " (that of the data set)"
    return f" (from data.{key})" if data[key] else " (from the file)"


def check_voxel(image: Volume, name: str) -> Iterator[Finding]:
    """Whether the voxel size is known and likely; `name` is that of the part."""
    key = "data.test_voxel_nm" if name.endswith("/test") else "data.voxel_nm"
    if image.voxel_nm is None:
        yield Finding(
            f"{image.path} does not say its voxel size; pixels are taken as they are, and masks have no scale: set "
            f"{key}=z,y,x in nm, such as 30,8,8.",
            look=True,
        )
        return
    z, y, x = image.voxel_nm
    if not all(PIXEL_NM[0] <= size <= PIXEL_NM[1] for size in (y, x)):
        yield Finding(
            f"Pixels of {y:g} x {x:g} nm are unusual for EM (expected {PIXEL_NM[0]:g} to {PIXEL_NM[1]:g}), a unit may "
            f"be wrong: set {key}=z,y,x in nm.",
            look=True,
        )
    if math.isnan(z):
        yield Finding(
            f"The distance of the slices of {image.path} is not known; training does without, but not what averages "
            f"along z or measures volumes: set {key}=z,{y:g},{x:g} with z in nm.",
            look=True,
        )
    stated = image.stated_nm if name.startswith("own/") else None  # public data sets have the size their authors give
    if stated and any(abs(said - size) > _VOXEL_OFF * size for said, size in zip(stated, image.voxel_nm, strict=True)):
        said, used = (format_shape(f"{size:g}" for size in sizes) for sizes in (stated, image.voxel_nm))
        yield Finding(
            f"{key} says voxels of {used} nm (z y x), but {image.path} itself {said} nm: leave {key} empty if the file "
            "is right.",
            look=True,
        )


def _check_numbers(image: Volume) -> Iterator[Finding]:
    """Whether each file of a folder is numbered one after the last, or at least has a number of its own."""
    numbers = [number_in(name) for name in image.names]
    if None in numbers:
        return
    names: dict[int, str] = {}
    for number, name in zip(numbers, image.names, strict=True):
        if number in names:
            yield Finding(
                f"{names[number]} and {name} of {image.path} end in the same number, so masks are taken to be named by "
                "the place of a file, counted from 0: move one of them away, or number the files anew.",
                look=True,
            )
            return
        names[number] = name
    steps = [(b - a, a) for a, b in pairwise(sorted(numbers))]
    usual = min(steps, default=(0, 0))[0]
    if gaps := [a for step, a in steps if step > usual]:
        yield Finding(
            f"Number {gaps[0] + usual} is missing between the files of {image.path}: export that slice again if it is "
            "lost, and name masks by the numbers of the image's files, not by their place.",
            look=True,
        )


def _axes(image: Volume, zs: Sequence[int]) -> Iterator[Finding]:
    """Neighbours along z are farther apart, or as far, as along y and x; so they are no more alike."""
    windows = [(_middle(image, z), _middle(image, z + 1)) for z in zs if z + 1 < len(image)]
    shifted = [(a, b, a[1:], a[:-1], a[:, 1:], a[:, :-1]) for a, b in windows if np.ptp(b.astype(float)) > 0]
    if shifted:
        alike = [np.median([_correlation(*pair[i : i + 2]) for pair in shifted]) for i in (0, 2, 4)]
        if alike[0] > min(alike[1:]) + _CORRELATION_GAP:
            yield Finding(
                f"Slices of {image.path} are more alike ({alike[0]:.2f}) than neighbouring rows ({alike[1]:.2f}) or "
                f"columns ({alike[2]:.2f}): its axes may not be z y x; reorder them in image and labels (Fiji: Image > "
                "Stacks > Reslice).",
                look=True,
            )
            return
    z, *yx = image.shape
    if z > 2 * min(yx):
        yield Finding(
            f"{image.path} has {z} slices of only {yx[0]} x {yx[1]} pixels: if that is not so, its axes are not z y x; "
            "reorder them in image and labels (Fiji: Image > Stacks > Reslice).",
            look=True,
        )


def check_labels(part: Part) -> Iterator[Finding]:
    """Their share of the pixels, and whether they lie where the image says."""
    zs = evenly_spaced(part.labelled_zs, _SLICES)
    labels = {z: part.native_label_at(z) for z in zs}
    foreground = {z: int((label == 1).sum()) for z, label in labels.items()}
    known = sum(int((label != IGNORE).sum()) for label in labels.values())
    share = sum(foreground.values()) / max(known, 1)
    native = part.label[part.rule.index[zs[0]]]
    about = f"{part.label.path} ({part.rule.kind}, values {native.min():g} to {native.max():g} in slice {zs[0]})"
    if share > _FOREGROUND[1]:
        yield Finding(
            f"{about} marks {share:.0%} of the pixels as mitochondrion, expected less than {_FOREGROUND[1]:.0%}: "
            "invert it (Fiji: Edit > Invert) if background and mitochondria are exchanged, or set data.label_kind.",
            look=True,
        )
    elif share < _FOREGROUND[0]:
        yield Finding(
            f"{about} marks {share:.2%} of the pixels as mitochondrion, expected at least {_FOREGROUND[0]:.1%}: check "
            "data.label_kind (grey counts values above 127), or label more.",
            look=True,
        )
    else:
        yield Finding(
            f"{part.label.path}: {len(part.labelled_zs)} labelled slices ({places(part.labelled_zs)}), {share:.1%} of "
            "their pixels mitochondrion."
        )
    yield from _check_empty(part)
    # The four with most to see, whose neighbours in z can be compared with.
    inner = [z for z in zs if 0 < z < len(part.image) - 1] or zs
    wrong = misplacement(part, sorted(inner, key=lambda z: -foreground[z])[:4])
    if wrong:
        yield Finding(
            f"The labels {part.label.path} of {part.image.path} {wrong}: check that both are exported the same way, "
            "that slices count from 0, and that they belong together.",
            look=True,
        )


def _check_empty(part: Part) -> Iterator[Finding]:
    """An empty mask in a folder of some slices is a label, or one that is still to be drawn."""
    label = part.label
    if not (part.name.startswith("own/") and label.names and len(label) < len(part.image)):
        return
    empty = [label.names[i] for i in part.rule.index.values() if not part.rule.decode(label[i]).any()]
    if empty:
        more = f" (and so {'are' if len(empty) > 2 else 'is'} {list_words(empty[1:6])})" if empty[1:] else ""
        yield Finding(
            f"{label.path}/{empty[0]} is empty{more} and counts as a slice without mitochondria: move it away if it is "
            "not labelled yet.",
            look=True,
        )


def places(zs: Sequence[int]) -> str:
    """[3, 40] -> "z = 3, 40"; of many, from where to where."""
    return f"z = {list_words(zs)}" if len(zs) <= 8 else f"z = {zs[0]} to {zs[-1]}"


def _flatness(volume: Volume) -> float:
    """Share of pixels that equal their right neighbour."""
    windows = [_middle(volume, z) for z in evenly_spaced(range(len(volume)), 8)]
    return float(np.mean([(window[:, 1:] == window[:, :-1]).mean() for window in windows]))


def check_view(part: Part, patch: int) -> Iterator[Finding]:
    """Whether a crop of `patch` pixels of the training shows what is around a mitochondrion."""
    if part.pixel_nm and patch * min(part.pixel_nm) < _NARROW_NM:
        yield Finding(
            f"A crop of {patch * min(part.pixel_nm) / 1000:.2g} µm shows hardly more than one mitochondrion. Larger "
            f"pixels show what is around it, and train faster: --config.data.pixel_nm={round(_WIDE_NM / patch)}; masks "
            "keep the pixels of the volume.",
            look=True,
        )


def _middle(volume: Volume, z: int) -> np.ndarray:
    """The middle of slice z, at most _WINDOW pixels wide: y x, native."""
    return volume[z, *central_window(volume.shape[1:], _WINDOW)]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def list_words(words: Sequence) -> str:
    """[3, 40] -> "3, 40"; "none" where there are none."""
    return ", ".join(map(str, words)) or "none"
