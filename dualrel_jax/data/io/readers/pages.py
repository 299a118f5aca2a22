"""Decode single pages of TIFF files, by tifffile or else by Pillow, into the grey values that are displayed."""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin
from tifffile import PHOTOMETRIC

from dualrel_jax.data.io.readers.base import as_grey
from dualrel_jax.errors import InputError

_LOCK = threading.Lock()
_users = 0
_limit: int | None = None


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
        self._by_pillow = False
        if compression(pages[0]) != "none":
            self._choose_decoder()

    def slice(self, z: int) -> np.ndarray:
        """Page z `y x` as displayed."""
        page, name = self._pages[z], f"{self._path}, page {z}"
        if not self._by_pillow:
            return as_grey(self._display(page.asarray()), name)
        image, inverted = _decode_by_pillow(self._path, page)
        return as_grey(image if inverted else self._display(image), name)

    def _choose_decoder(self) -> None:
        page = self._pages[0]
        try:
            page.asarray()
            return
        except Exception as error:  # damage as well; a missing decoder is an error of several types
            if not _is_missing_decoder(error):
                return  # the page is damaged, which its reader reports
        try:
            _decode_by_pillow(self._path, page)
            self._by_pillow = True
        except Exception as error:  # each decoder has its own
            if _pillow_decodes(page.keyframe.compression):
                self._by_pillow = True
                return
            raise InputError(
                f"{self._path}: no decoder for its compression {compression(page)} is installed; expected none, "
                "deflate or LZW: run `pip install imagecodecs`, or save it with one of these"
            ) from error


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


def _decode_by_pillow(path: Path, page: tifffile.TiffPage) -> tuple[np.ndarray, bool]:
    """(values, whether Pillow has inverted them already)."""
    with any_size(), Image.open(path) as image:
        image.seek(page.index)
        raw = str(image.tile[0][3][0] if isinstance(image.tile[0][3], tuple) else image.tile[0][3])
        values = np.asarray(image)
    inverted = "I" in raw.partition(";")[2]
    dtype = page.keyframe.dtype
    if values.dtype != dtype and values.ndim == 2:
        if values.dtype.itemsize != dtype.itemsize or values.dtype.kind not in "iu" or dtype.kind not in "iu":
            raise InputError(f"{path}: Pillow reads it as {values.dtype}, not {dtype}")
        values = values.astype(dtype)
    return values, inverted


def _is_missing_decoder(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, ImportError) or "imagecodecs" in text or "requires the" in text or "codec" in text


def _pillow_decodes(code: int) -> bool:
    """Whether Pillow's libtiff has this codec: it then has an encoder, too, for one of grey and one bit."""
    import io

    name = TiffImagePlugin.COMPRESSION_INFO.get(int(code))
    for mode in ("L", "1") if name else ():
        with contextlib.suppress(Exception):  # each codec has its own
            Image.new(mode, (16, 16)).save(io.BytesIO(), "TIFF", compression=name)
            return True
    return False
