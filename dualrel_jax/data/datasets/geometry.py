"""Whether labels lie on their image: size of slices, order of axes, orientation, and the place that files state."""

import math
from collections.abc import Iterable

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.io.voxel import Voxel, is_likely
from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

_VOXEL_OFF = 0.01  # fraction by which two stated voxel sizes may differ: both are rounded


def check_shapes(image: Volume, label: Volume) -> None:
    """Raises InputError where slices of image and label differ in size, in the order of their axes or in direction."""
    if image.shape[1:] == label.shape[1:]:
        check_orientation(image, label)
        return
    orders = ((2, 1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1), (1, 0, 2))  # likely ones first
    order = next((order for order in orders if tuple(label.shape[axis] for axis in order) == image.shape), None)
    if order:
        nifti = " (NIfTI stores x, y, z)" if "NIfTI" in image.format + label.format else ""
        raise InputError(
            f"{label.path} has {format_shape(label.shape)} voxels (z y x), but its image {image.path} has "
            f"{format_shape(image.shape)}; expected axes in the same order: these seem to be in another{nifti}, so "
            f"save the labels, if not the image, as array.transpose{order}."
        )
    raise InputError(
        f"{label.path} has slices of {label.shape[1]} x {label.shape[2]} pixels (y x), but its image {image.path} "
        f"has {image.shape[1]} x {image.shape[2]}; expected the same size: export the labels at the size of the image."
    )


def check_orientation(image: Volume, label: Volume) -> None:
    """Raises InputError where the files of image and label state other directions of their axes."""
    stated = image.orientation, label.orientation
    of_image, of_label = (orientation.removesuffix("?") for orientation in stated)
    if of_image == of_label or not all(stated) or all(orientation.endswith("?") for orientation in stated):
        return
    raise InputError(
        f"{label.path} states that its axes x, y, z lead to {of_label}, but its image {image.path} to "
        f"{of_image} (left, right, anterior, posterior, superior, inferior); expected the same, as masks "
        "would be mirrored or turned: save the labels in the orientation of the image, or as TIFF if they lie right."
    )


def differing_place(image: Volume, label: Volume) -> str:
    """A sentence where the file of `label` states another voxel size or another place than `image` has; else "".

    Sizes that no microscope has are taken for unknown. Only zarr and n5 state places.
    """
    axes = range(3) if len(image) == len(label) else (1, 2)  # labels of some slices have a z of their own
    of_label, sizes = label.stated_nm, [size for size in (image.voxel_nm, image.stated_nm) if size]
    if of_label and is_likely(of_label) and sizes and not any(_alike(of_label, of_image, axes) for of_image in sizes):
        in_label, in_image = (format_shape(map(_text, size)) for size in (of_label, sizes[0]))
        return (
            f"{label.path} states voxels of {in_label} nm (z y x), but {image.path} has {in_image} nm: check that they "
            "belong together."
        )
    if not (_states_place(image) and _states_place(label)):
        return ""
    apart = [abs(a - b) for a, b in zip(label.origin_nm, image.origin_nm, strict=True)]
    if any(apart[axis] > image.voxel_nm[axis] for axis in axes):
        of_label, of_image = (", ".join(f"{nm:g}" for nm in volume.origin_nm) for volume in (label, image))
        return (
            f"{label.path} states that its first voxel lies at {of_label} nm (z y x), but that of {image.path} lies at "
            f"{of_image}: check that both show the same place."
        )
    return ""


def _text(nm: float) -> str:
    return "?" if math.isnan(nm) else f"{nm:g}"


def _states_place(volume: Volume) -> bool:
    """Whether its file states where it lies, in voxels of the size that is used."""
    sizes = volume.stated_nm
    whole = sizes is not None and sizes == volume.voxel_nm and not math.isnan(sizes[0])
    return whole and volume.format.startswith(("zarr", "n5"))


def _alike(sizes: Voxel, others: Voxel, axes: Iterable[int]) -> bool:
    """Whether two voxel sizes are equal along `axes`, as far as both are known."""
    return not any(abs(sizes[axis] - others[axis]) > _VOXEL_OFF * others[axis] for axis in axes)
