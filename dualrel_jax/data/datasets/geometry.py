"""Whether labels lie on their image: size of slices, order of axes, orientation."""

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape


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
