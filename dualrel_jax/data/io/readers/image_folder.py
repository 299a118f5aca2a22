"""Folders of TIFF, PNG or JPEG slices, and single images."""

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from dualrel_jax.data.io.readers import tiff
from dualrel_jax.data.io.readers.base import Stack, as_grey, unreadable
from dualrel_jax.data.io.readers.pages import any_size
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

FLAT = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}  # one image each, by Pillow
KINDS = FLAT | dict.fromkeys(tiff.SUFFIXES, "TIFF")
_WHOLE = slice(None)
# What browsers, systems and people put behind the name of a copy. No more than two digits, and none behind a _ that
# follows letters: 's1_0001' and 'mask_1' beside 's1' and 'mask' are series.
_COPY = re.compile(
    r"(([ _-]+|(?<=\d))(copy|v\d{1,2})( ?\(\d{1,2}\)| \d{1,2})?| ?\(\d{1,2}\)|[ -]\d{1,2}|(?<=\d)_\d{1,2})$",
    re.IGNORECASE,
)


def read_folder(folder: Path, sizes_yx: Collection[tuple[int, int]] = (), labels: bool = False) -> Stack:
    """The slices in natural order (2 before 10); hidden files and those of other types are ignored."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in KINDS and not file.name.startswith(".")]
    kinds = sorted({_kind(file) for file in files})
    if not files:
        raise InputError(
            f"{folder}: holds no slices{_instead(folder)}; expected {', '.join(KINDS)} files, or a zarr or n5 "
            "array: name the folder that has them, or save them (Fiji: File > Save As > Image Sequence, TIFF or PNG)"
        )
    if len(kinds) > 1:
        raise InputError(f"{folder}: holds {' and '.join(kinds)} files; expected one kind: move the others away")
    _check_copies(files)
    return read_slices(sorted(files, key=_natural), sizes_yx, labels)


def read_slices(files: list[Path], sizes_yx: Collection[tuple[int, int]] = (), labels: bool = False) -> Stack:
    """Images of one shape and type. Their headers are read now, their pixels when asked for.

    Of several shapes and types that of most files is right, among those of `sizes_yx` where there are any. With
    `labels`, the indices of a palette of colours are the values; palettes of greys are applied, as in TIFF; and of one
    colour on a transparent ground the opaque pixels are 255, all others 0.
    """
    headers = [_header(file) for file in files]
    kinds = [header[:2] for header in headers]
    count = Counter(kinds)
    right = max([kind for kind in count if kind[0] in sizes_yx] or count, key=count.__getitem__)
    for file, kind in zip(files, kinds, strict=True):
        if kind != right:
            here, expected = (f"{format_shape(shape)} {dtype}" for shape, dtype in (kind, right))
            raise InputError(
                f"{file}: is {here}; expected {expected} as in {files[kinds.index(right)].name}: convert it or move it "
                "away"
            )
    (shape, dtype), voxel_nm = right, headers[0][2]
    _load(files[0], labels)  # refuses colour now rather than at the first use
    title = f"{_kind(files[0])} image" if len(files) == 1 else f"folder of {_kind(files[0])} slices"
    title += ", its opaque pixels as the mask" if labels and _is_opaque_mask(files[0]) else ""
    names = tuple(file.name for file in files)
    return Stack((len(files), *shape), dtype, voxel_nm, title, lambda z, y, x: _load(files[z], labels)[y, x], names)


def _kind(file: Path) -> str:
    return KINDS[file.suffix.lower()]


def _check_copies(files: list[Path]) -> None:
    """A copy would count as another slice: the number behind its name is the last one."""
    names = {file.stem: file.name for file in files}
    for file in files:
        original = _COPY.sub("", file.stem)
        if original != file.stem and original in names:
            raise InputError(
                f"{file}: looks like a copy of {names[original]}; expected one file a slice: move one of them away"
            )


def _instead(folder: Path) -> str:
    """', but .jpg files and the folder raw'; '' for an empty folder."""
    inside = [child for child in folder.iterdir() if not child.name.startswith(".")]
    suffixes = sorted({child.suffix or child.name for child in inside if child.is_file()})
    folders = sorted(child.name for child in inside if child.is_dir())
    parts = [f"{', '.join(suffixes[:5])} files"] if suffixes else []
    parts += [f"the folder{'s' * (len(folders) > 1)} {', '.join(folders[:5])}"] if folders else []
    return f", but {' and '.join(parts)}" if parts else ""


def _header(file: Path) -> tuple[tuple[int, int], np.dtype, Voxel | None]:
    """-> (y, x), dtype, voxel size."""
    try:
        if file.suffix.lower() in tiff.SUFFIXES:
            source = tiff.read_tiff(file)
            if source.shape[0] > 1:
                raise InputError(f"{file}: holds {source.shape[0]} pages; expected one slice a file: open it by itself")
            return source.shape[1:], source.dtype, source.voxel_nm
        with any_size(), Image.open(file) as image:
            if any("A;16" in str(tile.args) or "RGB;16" in str(tile.args) for tile in image.tile):
                raise InputError(  # Pillow would keep the upper 8 bits
                    f"{file}: has 16 bits in each of several channels; expected one channel: save it as 16-bit grey"
                )
            return image.size[::-1], np.dtype("uint16" if image.mode.startswith("I") else "uint8"), None
    except InputError:
        raise
    except Exception as error:
        raise unreadable(
            file, error, f"is not a readable image ({error}); expected a slice: export it again"
        ) from error


def _load(file: Path, labels: bool) -> np.ndarray:
    if file.suffix.lower() in tiff.SUFFIXES:
        return tiff.read_tiff(file).read(0, _WHOLE, _WHOLE)
    try:
        with any_size(), Image.open(file) as image:
            if image.mode.startswith("I"):
                return np.asarray(image).astype(np.uint16)
            if labels and image.mode == "P":
                return _labels_of_palette(image, file)
            mask = _opaque(image) if labels else None
            return _displayed(image, file) if mask is None else mask
    except (OSError, SyntaxError) as error:
        damaged = f"is damaged ({error}); expected a whole image: copy or export it again"
        raise unreadable(file, error, damaged) from error


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _opaque(image: Image.Image) -> np.ndarray | None:
    """255 where a mask of one colour is opaque, 0 where it is wholly transparent; None for any other image."""
    if not _has_alpha(image):
        return None
    rgba = np.asarray(image.convert("RGBA"))
    alpha = rgba[..., 3]
    colours = rgba[alpha > 0]
    is_mask = alpha.min() == 0 and set(np.unique(alpha)) <= {0, 255} and (colours == colours[:1]).all()
    return alpha if is_mask else None


def _is_opaque_mask(file: Path) -> bool:
    if file.suffix.lower() != ".png":
        return False
    with any_size(), Image.open(file) as image:
        return image.mode != "P" and _opaque(image) is not None


def _displayed(image: Image.Image, file: Path) -> np.ndarray:
    # One bit becomes 0 and 255: some tools shrink an all-black mask to that, among others of 8 bit.
    mode = "RGBA" if _has_alpha(image) else {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
    return as_grey(np.asarray(image.convert(mode)), str(file))


def _labels_of_palette(image: Image.Image, file: Path) -> np.ndarray:
    """Greys where the palette has nothing else, as its order may be any; of colours the indices, as annotators do."""
    indices, palette = np.asarray(image), np.reshape(image.getpalette(), (-1, 3))
    if (palette != palette[:, :1]).any():
        return indices
    greys = _displayed(image, file)
    if len(np.unique(greys)) < len(np.unique(indices)):
        raise InputError(
            f"{file}: has a palette that shows several of its labels in one grey; expected a grey or colour for each: "
            "save it without a palette"
        )
    return greys


def _natural(file: Path) -> list[str | int]:
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", file.name)]
