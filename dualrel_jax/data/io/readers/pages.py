"""Decode single pages of TIFF files, by tifffile or else by Pillow, into the grey values that are displayed."""

import contextlib
import io
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from tifffile import PHOTOMETRIC

from dualrel_jax.data.io.readers.base import as_grey
from dualrel_jax.errors import InputError

_LOCK = threading.Lock()
_users = 0
_limit: int | None = None
_kinds_by_pillow: dict[tuple, bool] = {}


@contextlib.contextmanager
def any_size() -> Iterator[None]:
    """Pillow opens images above 179 million pixels within: a slice of a mosaic may have more.

    Pillow's limit is one for the whole process, which may be napari's; it is restored as the last thread leaves.
    """
    global _users, _limit
    with _LOCK:
        if _users == 0:
            _limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if _users == 0:
                Image.MAX_IMAGE_PIXELS = _limit


class Pages:
    """Pages read through one open file: reading takes its lock, decoding runs in the caller's thread.

    Args:
        tif: the open file, which is closed with this object.
        pages: of the stack, in order of z.
        path: for messages.

    Raises:
        InputError: no decoder for their compression.
    """

    def __init__(self, tif: tifffile.TiffFile, pages: Sequence, path: Path):
        weakref.finalize(self, tif.close)
        tif.filehandle.set_lock(True)
        self._pages, self._path = pages, path
        self._display = displayed(pages[0].keyframe, path)
        self._by_pillow = _needs_pillow(pages[0], path)

    def slice(self, z: int) -> np.ndarray:
        """Page z `y x` as displayed."""
        page, name = self._pages[z], f"{self._path}, page {z}"
        if not self._by_pillow:
            return as_grey(self._display(page.asarray()), name)
        return as_grey(self._display(_decode_by_pillow(self._path, page)), name)


def _needs_pillow(page: tifffile.TiffPage | tifffile.TiffFrame, path: Path) -> bool:
    """Whether Pillow decodes pages of this kind, not tifffile; found out once for each kind."""
    kept = page.keyframe
    kind = (kept.compression, kept.predictor, kept.photometric, kept.dtype, kept.bitspersample)
    if kind not in _kinds_by_pillow:
        _kinds_by_pillow[kind] = not _tifffile_decodes(page) and _check_pillow(page, path)
    return _kinds_by_pillow[kind]


def _tifffile_decodes(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    if page.keyframe.compression == 1:
        return True
    try:
        page.asarray()
    except Exception as error:  # a missing decoder is an error of several types; a damaged page has a decoder
        text = str(error)
        return not (isinstance(error, ImportError) or "requires the" in text or "codec" in text)
    return True


def _check_pillow(page: tifffile.TiffPage | tifffile.TiffFrame, path: Path) -> bool:
    """True; raises InputError where Pillow has no decoder either."""
    try:
        _decode_by_pillow(path, page)
    except Exception as error:  # each decoder has its own
        unknown = isinstance(error, UnidentifiedImageError | InputError)
        if unknown or not _pillow_decodes(page.keyframe.compression):
            raise InputError(
                f"{path}: no decoder for its compression {compression(page)} of type {page.keyframe.dtype} is "
                "installed; expected none, deflate or LZW: run `pip install imagecodecs`, or save it with one of these"
            ) from error
    return True


def compression(page: tifffile.TiffPage | tifffile.TiffFrame) -> str:
    """Its name in lower case; 'none' without."""
    name = getattr(page.keyframe.compression, "name", None) or f"number {page.keyframe.compression}"
    return name.removeprefix("ADOBE_").lower()


def displayed(page: tifffile.TiffPage, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function from stored to displayed values: inverts where 0 is white, applies a palette of greys.

    Palettes of colours are left out: the stored values of a label image are its ids.

    Raises:
        InputError: 0 is white, and values are signed or real: programs do not agree on these.
    """
    if is_inverted(page):
        if page.dtype.kind == "b":
            return np.logical_not
        if page.dtype.kind != "u":
            raise InputError(
                f"{path}: is stored with 0 as white (MinIsWhite) and values of type {page.dtype}; expected whole "
                "numbers from 0, or 0 as black: save it with an ordinary look-up table (Fiji: Image > Lookup Tables > "
                "Grays)"
            )
        top = page.dtype.type((1 << page.bitspersample) - 1)
        return lambda stored: top - stored
    colours = page.colormap if page.photometric == PHOTOMETRIC.PALETTE else None
    if colours is not None and (colours == colours[:1]).all() and page.dtype.kind == "u":
        greys = colours[0] >> 8 if page.dtype.itemsize == 1 else colours[0]
        greys = greys.astype(page.dtype)
        if not np.array_equal(greys, np.arange(len(greys))):
            return lambda stored: greys[stored]
    return lambda stored: stored


def is_inverted(page: tifffile.TiffPage) -> bool:
    """Whether stored and displayed values are in reverse order: white is 0.

    tifffile, and what builds on it, calls 0 white for arrays of bool, but stores True, the mask, as 1.
    """
    by_tifffile = page.dtype.kind == "b" and "tifffile" in str(page.software)
    return page.photometric == PHOTOMETRIC.MINISWHITE and not by_tifffile


_TURN_BACK = {  # orientation that a TIFF states -> from what is displayed to what is stored
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: np.rot90,
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: lambda values: np.rot90(values, -1),
}


def _decode_by_pillow(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """Values as they are stored, in the type that the file states; colours `y x c`."""
    with any_size(), Image.open(path) as image:
        image.seek(page.index)
        options = image.tile[0][3]
        stored_as = str(options[0] if isinstance(options, tuple) else options)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        values = np.asarray(image)
        is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) != orientation
    if is_turned:  # by Pillow; no other reader does it
        values = _TURN_BACK[orientation](values)
    keyframe = page.keyframe
    if values.ndim == 2 and "I" in stored_as.partition(";")[2]:  # Pillow has inverted 1 and 8 bit, and no others
        values = ~values if values.dtype.kind in "bu" else values
    if values.ndim == 2 and values.dtype != keyframe.dtype:
        kinds = values.dtype.kind + keyframe.dtype.kind
        same_bits = values.dtype.itemsize == keyframe.dtype.itemsize
        converted = values.astype(keyframe.dtype)
        if not (set(kinds) <= set("iu") and (same_bits or np.array_equal(converted, values))):
            raise InputError(f"{path}: is read as {values.dtype}, expected {keyframe.dtype}: save it uncompressed")
        values = converted
    return values


def _pillow_decodes(code: int) -> bool:
    """Whether Pillow's libtiff has this codec: it then has an encoder, too, for one of grey and one bit."""
    name = TiffImagePlugin.COMPRESSION_INFO.get(int(code))
    for mode in ("L", "1") if name else ():
        with contextlib.suppress(Exception):  # each codec has its own
            Image.new(mode, (16, 16)).save(io.BytesIO(), "TIFF", compression=name)
            return True
    return False
