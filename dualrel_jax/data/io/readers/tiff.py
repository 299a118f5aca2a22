"""TIFF stacks: plain, ImageJ and OME, memory-mapped where they are one uncompressed block, else page by page."""

import contextlib
import dataclasses
import logging
import math
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from dualrel_jax.data.io.readers.axes import name_channel, split_channel
from dualrel_jax.data.io.readers.base import Stack, array_stack
from dualrel_jax.data.io.readers.pages import Pages, compression, displayed, is_inverted
from dualrel_jax.data.io.voxel import Voxel, unit_nm, voxel_of
from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

SUFFIXES = (".tif", ".tiff")


def read_tiff(path: Path, expected: Collection[tuple[int, int, int]] = (), inner: str | None = None) -> Stack:
    """A stack of grey values as displayed: inverted where the file stores white as 0, whatever the compression.

    Args:
        path: one file.
        expected: shapes z y x that planes of colours or channels would have as slices.
        inner: "Channel 1", counted from 0; None where there is only one.

    Raises:
        InputError: truncated, in colour, several channels or stacks, no such channel, or no decoder for its
            compression.
    """
    with _without_log(), contextlib.ExitStack() as files:
        tif = files.enter_context(tifffile.TiffFile(path))
        series = _one_stack(tif, path)
        first = series[0].keyframe
        title = {"imagej": "ImageJ TIFF", "ome": "OME-TIFF"}.get(series[0].kind, "TIFF")
        title += ", inverted, as its 0 is white" if is_inverted(first) else ""
        if inner is None and set(series[0].axes) <= set("XYZ") and not series[0].axes.endswith("YX"):
            return _transposed(tif, series[0], path, title)
        if inner is None:
            shape, grey = _stack_shape(series, path, expected)
            places = range(shape[0])
        else:
            shape, places = _channel(series, path, inner)
            grey, title = True, f"{title}, {inner}"
        title += ", its frames as slices" if "T" in series[0].axes else ""
        title += ", its channels as slices" if inner is None and "C" in series[0].axes and shape[0] > 1 else ""
        dtype, offset = series[0].dtype.newbyteorder("="), series[0].dataoffset
        voxel_nm, display = _voxel_nm(tif), displayed(first, path)
        if offset is not None and len(series) == 1 and grey:
            stored = (math.prod(series[0].shape) // math.prod(shape[1:]), *shape[1:])
            _check_block(tif, stored, offset, path)
            block = np.memmap(path, dtype.newbyteorder(tif.byteorder), "r", offset, stored)
            read = lambda z, y, x: display(block[places[z], y, x])  # noqa: E731
            return Stack(shape, dtype, voxel_nm, f"{title}, memory-mapped", read)
        if series[0].axes == "SYX":
            planes = display(series[0].asarray())  # one page holds them all
            return Stack(shape, dtype, voxel_nm, title, lambda z, y, x: planes[z, y, x])
        pages = [page for part in series for page in part.pages]
        _check_pages(tif, places[-1] + 1, pages, path)
        pages = [pages[place] for place in places]
        files.pop_all()  # stays open, for the pages
        stack = Pages(tif, pages, path)
    if not grey:
        stack.slice(0)  # refuses colour now rather than at the first use
    name = compression(pages[0])
    title += f", {'uncompressed' if name == 'none' else name}"
    return Stack(shape, dtype, voxel_nm, title, lambda z, y, x: stack.slice(z)[y, x])


def _transposed(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path, title: str) -> Stack:
    """A stack whose pages do not lie in y and x, such as XYZ: memory-mapped, or else read whole."""
    display = displayed(series.keyframe, path)
    if series.dataoffset is None:
        Pages(tif, series.pages, path)  # refuses a compression without decoder
        array = display(series.asarray())
    else:
        dtype = series.dtype.newbyteorder(tif.byteorder)
        array = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
    sizes = dict(zip("ZYX", _voxel_nm(tif) or (), strict=False)) if tif.is_ome else {}
    stack = array_stack(array, str(path), title, series.axes, [sizes.get(axis, np.nan) for axis in series.axes])
    if series.dataoffset is None:
        return stack
    return dataclasses.replace(stack, read=lambda z, y, x: display(stack.read(z, y, x)))


def _one_stack(tif: tifffile.TiffFile, path: Path) -> list[tifffile.TiffPageSeries]:
    """The series that make up the stack: one, or many single images of one kind, each written by itself."""
    series = tif.series
    if not series:
        raise InputError(f"{path}: holds no image; expected a stack of grey slices: export it again")
    if any(part.is_multifile for part in series):
        raise InputError(f"{path}: is an OME-TIFF in several files; expected a single file: save it as one")
    kinds = {(part.shape, part.axes, part.dtype) for part in series}
    if len(kinds) > 1 or (len(series) > 1 and len(series[0].pages) > 1):
        shapes = ", ".join(format_shape(part.shape) for part in series[:4])
        raise InputError(f"{path}: holds {len(series)} images ({shapes}); expected one stack: save it in its own file")
    return series


def _stack_shape(
    series: list[tifffile.TiffPageSeries], path: Path, expected: Collection[tuple[int, int, int]]
) -> tuple[tuple[int, int, int], bool]:
    """-> (z, y, x) and whether the pages are grey."""
    shape, axes = series[0].shape, series[0].axes
    planar = axes in ("SYX", "CYX") and len(series) == 1
    if planar and shape in expected:
        return shape, True
    grey = axes[-1] != "S"
    zyx, axes = (shape, axes) if grey else (shape[:-1], axes[:-1])
    if axes == "YX":
        return (len(series), *zyx), grey
    # A stack that tifffile wrote for ImageJ or OME without naming axes has "channels"; two to four are true colours.
    if len(axes) != 3 or axes[1:] != "YX" or axes[0] == "S" or (axes[0] == "C" and zyx[0] <= 4):
        remedy = "save one channel and time point alone (Fiji: Image > Duplicate)"
        if "C" in axes and grey and len(axes) <= 4:
            remedy = f"{name_channel(path.name, zyx[axes.index('C')])}, or {remedy}"
        if planar:
            remedy += (
                "; if these are slices, tifffile saved them as colours: write them with photometric='minisblack', "
                "metadata={'axes': 'ZYX'}"
            )
        raise InputError(
            f"{path}: has axes {series[0].axes} ({format_shape(shape)}); expected one grey stack (z, y, x): {remedy}"
        )
    return tuple(zyx), grey


def _channel(
    series: list[tifffile.TiffPageSeries], path: Path, inner: str
) -> tuple[tuple[int, int, int], Sequence[int]]:
    """-> (z, y, x) of the channel that `inner` names, and the places of its slices among all planes of the file."""
    shape, axes = series[0].shape, series[0].axes
    rest, number = axes.replace("C", "", 1), split_channel(inner)[1]
    if len(series) > 1 or rest[-2:] != "YX" or len(rest) > 3 or len(rest) == len(axes):
        raise InputError(
            f"{path}: has axes {axes} ({format_shape(shape)}), of which no {inner} can be taken; expected channels of "
            "one stack (C, z, y, x): leave the name of a channel out, or save one channel alone (Fiji: Image > "
            "Duplicate)"
        )
    at = axes.index("C")
    if number is None or number >= shape[at]:
        raise InputError(f"{path}: has no {inner}; expected one of its channels: {name_channel(path.name, shape[at])}")
    planes = np.arange(math.prod(shape[:-2])).reshape(shape[:-2])
    places = planes.take(number, axis=at).ravel().tolist()
    return (len(places), *shape[-2:]), places


def _check_block(tif: tifffile.TiffFile, shape: tuple[int, int, int], offset: int, path: Path) -> None:
    series = tif.series[0]
    complete = (tif.filehandle.size - offset) // (shape[1] * shape[2] * series.dtype.itemsize)
    # ImageJ and tifffile write the number of pages into the first; else the list of pages must be whole.
    lost = series.kind not in ("imagej", "shaped") and _link_after_last_page(tif)
    if complete < shape[0] or lost:
        raise _truncated(path)


def _check_pages(tif: tifffile.TiffFile, count: int, pages: list, path: Path) -> None:
    size = tif.filehandle.size
    for page in pages:
        ends = [] if page is None else [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=size + 1) > size:
            raise _truncated(path)
    if len(pages) < count or _link_after_last_page(tif):
        raise _truncated(path)


def _link_after_last_page(tif: tifffile.TiffFile) -> bool:
    """Whether the last page that was found names a next one: that one lies past the end of the file."""
    tif.filehandle.seek(tif.pages.next_page_offset)
    return any(tif.filehandle.read(tif.tiff.offsetsize))


def _truncated(path: Path) -> InputError:
    return InputError(
        f"{path}: is truncated (the file has {path.stat().st_size} bytes); expected all pages whole: copy or download "
        "it again"
    )


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Drops what tifffile logs in this thread: of a damaged file, lines that are no help before our own sentence."""
    logger, thread = logging.getLogger("tifffile"), threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _voxel_nm(tif: tifffile.TiffFile) -> Voxel | None:
    """From OME-XML, ImageJ's description or the resolution tags; z is nan where the file does not state it."""
    if tif.is_ome:
        return _ome_voxel_nm(tif.ome_metadata)
    tags, imagej = tif.pages.first.tags, tif.imagej_metadata or {}
    resolution_unit = {2: unit_nm("inch"), 3: unit_nm("cm")}.get(tags.valueof("ResolutionUnit"))
    x_unit = unit_nm(imagej.get("unit")) or resolution_unit
    # ImageJ names the units of y and z only where they differ from that of x.
    y_unit, z_unit = (unit_nm(imagej[key]) if key in imagej else x_unit for key in ("yunit", "zunit"))
    ratios = [tags.valueof(name, (0, 1)) for name in ("YResolution", "XResolution")]
    if x_unit is None or y_unit is None or not all(pixels and units for pixels, units in ratios):
        return None
    y, x = (unit * units / pixels for unit, (pixels, units) in zip((y_unit, x_unit), ratios, strict=True))
    if x_unit >= unit_nm("cm") and max(y, x) > 1000:
        return None  # dots per inch of a printer or a screen
    return voxel_of(((z_unit or np.nan) * float(imagej.get("spacing", "nan")), y, x))


def _ome_voxel_nm(xml: str) -> Voxel | None:
    pixels: Any = next((node for node in ElementTree.fromstring(xml).iter() if node.tag.endswith("Pixels")), {})
    units = (unit_nm(pixels.get(f"PhysicalSize{axis}Unit", "um")) or float("nan") for axis in "ZYX")
    sizes = (float(pixels.get(f"PhysicalSize{axis}", "nan")) for axis in "ZYX")
    return voxel_of(size * unit for size, unit in zip(sizes, units, strict=True))
