"""Checks of the volumes of a training: images and labels exchanged, voxel sizes, and how much a crop shows."""

import math
from collections.abc import Generator, Iterator

from ml_collections import ConfigDict

from dualrel_jax.data.checks.finding import Finding
from dualrel_jax.data.checks.volume import LABELS, check_volume, flatness
from dualrel_jax.data.datasets.geometry import differing_place
from dualrel_jax.data.datasets.own import for_each, open_label, split_paths
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.utils.text import format_shape

_IMAGE = 0.5  # fraction of pixels equal to their right neighbour, as `volume.LABELS`: less is no labels
_NOT_SQUARE = 1.5  # of electron microscopy 1; of a size in another order more
_ENLARGED = 6.0  # muscle of 18 nm, the coarsest tissue that was tried, is enlarged 3.6 times at size tiny
_VOXEL_OFF = 0.01  # fraction by which a voxel size may differ from that of the file: both are rounded
# Side of a crop: 480 nm of Lucchi (pixels of 5 nm) gave a JAC of 76, 1920 nm (20 nm) one of 86 (supervised, size tiny).
_NARROW_NM, _WIDE_NM = 1000, 2000


def check_kinds(data: ConfigDict, image_key: str, label_key: str) -> Generator[Finding, None, bool]:
    """Compares how often neighbouring pixels are equal in images and in labels; returns whether labels are unusable."""
    unusable = False
    images, labels = (split_paths(data[key]) for key in (image_key, label_key))
    listed = for_each(data.labelled_slices if label_key == "label" else "", len(images), "data.labelled_slices")
    for image_path, label_path, zs in zip(images, labels, listed, strict=False):
        volume = open_volume(image_path, verbose=False)
        image, label = flatness(volume), flatness(open_label(label_path, volume, zs, verbose=False))
        unusable |= label < _IMAGE
        if label < _IMAGE and image > LABELS:
            yield Finding(
                f"{image_path} looks like labels and {label_path} like an image (neighbouring pixels are equal in "
                f"{image:.0%} and {label:.0%} of places): exchange data.{image_key} and data.{label_key}.",
                look=True,
            )
        elif label < _IMAGE:
            yield Finding(
                f"{label_path} looks like an image or a probability, not like labels (neighbouring pixels are equal in "
                f"{label:.0%} of places, expected over {LABELS:.0%}): name the labels with data.{label_key}.",
                look=True,
            )
        elif image > LABELS:
            yield Finding(
                f"{image_path} looks like labels, not like an image (neighbouring pixels are equal in {image:.0%} of "
                f"places): name the image with data.{image_key}.",
                look=True,
            )
    return unusable


def check_image(part: Part, data: ConfigDict) -> Iterator[Finding]:
    """What the file states, its voxel size, and `check_volume`."""
    image = part.image
    yield Finding(f"{image.describe()}{_origin(part, data)}; intensities {part.range[0]:g} to {part.range[1]:g}.")
    yield from check_voxel(image, part.name)
    if image.voxel_nm and part.pixel_nm and max(image.voxel_nm[1:]) > _ENLARGED * min(part.pixel_nm):
        yield Finding(
            f"Pixels of {image.path} are {max(image.voxel_nm[1:]):g} nm and are enlarged to {min(part.pixel_nm):g} nm: "
            "is the voxel size right, and in nm? If so, --config.data.pixel_nm may be larger.",
            look=True,
        )
    yield from check_volume(image, part.zs, labelled=True)


def _origin(part: Part, data: ConfigDict) -> str:
    """Where the voxel size comes from."""
    if part.image.voxel_nm is None:
        return ""
    if not part.labelled_zs:
        stated = open_volume(part.image.path, verbose=False).voxel_nm if data.name == "own" else ()
        return " (from data.voxel_nm)" if stated is None else ""
    key = "test_voxel_nm" if part.name.endswith("/test") else "voxel_nm"
    if data.name != "own" and not (key == "test_voxel_nm" and data.test_image):
        return " (that of the data set)"
    return f" (from data.{key})" if data[key] else " (from the file)"


def check_voxel(image: Volume, name: str) -> Iterator[Finding]:
    """Whether the voxel size is known, and that of the file; `name` is that of the part."""
    key = "data.test_voxel_nm" if name.endswith("/test") else "data.voxel_nm"
    if image.voxel_nm is None:
        yield Finding(
            f"{image.path} does not state its voxel size; pixels are taken as they are, and masks have no scale: set "
            f"{key}=z,y,x in nm, such as 30,8,8.",
            look=True,
        )
        return
    z, y, x = image.voxel_nm
    if math.isnan(z):
        yield Finding(
            f"The distance of the slices of {image.path} is not known; training does without, but not what averages "
            f"along z or measures volumes: set {key}=z,{y:g},{x:g} with z in nm.",
            look=True,
        )
    if max(y, x) > _NOT_SQUARE * min(y, x):
        yield Finding(
            f"Pixels of {image.path} are {y:g} x {x:g} nm (y x), far from square: is {key} in the order z,y,x? Fiji "
            "shows x, y, z.",
            look=True,
        )
    stated = image.stated_nm if name.startswith("own/") else None  # public data sets have the size their authors give
    if stated and any(abs(here - size) > _VOXEL_OFF * size for here, size in zip(stated, image.voxel_nm, strict=True)):
        in_file, used = (format_shape(f"{size:g}" for size in sizes) for sizes in (stated, image.voxel_nm))
        yield Finding(
            f"{key} states voxels of {used} nm (z y x), but {image.path} itself {in_file} nm: leave {key} empty if the "
            "file is right.",
            look=True,
        )


def check_place(part: Part) -> Iterator[Finding]:
    """Whether the files of image and labels state the same voxel size and place."""
    if part.label is not None and (sentence := differing_place(part.image, part.label)):
        yield Finding(sentence, look=True)


def check_view(part: Part, patch: int) -> Iterator[Finding]:
    """Whether a crop of `patch` pixels of the training shows what is around a mitochondrion."""
    if part.pixel_nm and patch * min(part.pixel_nm) < _NARROW_NM:
        yield Finding(
            f"A crop of {patch * min(part.pixel_nm) / 1000:.2g} µm shows hardly more than one mitochondrion. Larger "
            f"pixels show what is around it, and train faster: --config.data.pixel_nm={round(_WIDE_NM / patch)}; masks "
            "keep the pixels of the volume.",
            look=True,
        )
