"""Open any electron microscopy volume as a lazy `z y x` array with its voxel size in nm."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from dualrel_jax.data.io.box_path import split_box
from dualrel_jax.data.io.padding import tissue_values
from dualrel_jax.data.io.pyramid import FINEST, Level, LevelChoice, scaled
from dualrel_jax.data.io.readers import chunked, image_folder
from dualrel_jax.data.io.readers.base import Stack, array_stack, unreadable
from dualrel_jax.data.io.readers.formats import SUPPORTED, Expected, advice, format_of
from dualrel_jax.data.io.remote import RemotePath, as_place, is_remote, split_address, store_errors
from dualrel_jax.data.io.voxel import Voxel, is_voxel
from dualrel_jax.errors import InputError
from dualrel_jax.utils.boxes import format_box, parse_box, whole
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.utils.text import format_shape

_RANGE_SLICES = 16
_RANGE_PIXELS = 1 << 20  # of each slice, at most
_RANGE_WHOLE_PIXELS = 1 << 26  # larger slices are not read whole for it
RANGE_QUANTILES = (0.001, 0.999)  # the grey values that become 0 and 255


@dataclasses.dataclass(frozen=True)
class Volume:
    """A lazy stack of grey slices. `volume[z]` reads one slice `y x`; `volume[z, y0:y1, x0:x1]` and
    `volume[z0:z1]` work too. Reading from several threads is safe; what is read must not be written to.

    Attributes:
        path: where it came from, for messages.
        shape: (z, y, x); a single image has z = 1.
        dtype: of the values, in native byte order.
        voxel_nm: (z, y, x) in nm, or None. z is nan where the file gives only the pixel size.
        format: the kind of file, for people.
        names: file names of the slices, for a folder.
        stated_nm: the voxel size that the file itself states; `voxel_nm` may override it.
        origin_nm: (z, y, x) of the centre of the first voxel, as the file places it.
        level: the level of a pyramid that this is; None where there is no other, or where it was named itself.
        container: the path that was asked for: that of the pyramid where `path` names one of its levels.
        orientation: where x, y and z lead in a patient, by `readers.base.orientation_of`; "" where it is not stated.
    """

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    voxel_nm: Voxel | None
    format: str
    _read: Callable[[int, slice, slice], np.ndarray] = dataclasses.field(repr=False, compare=False)
    names: tuple[str, ...] = ()
    stated_nm: Voxel | None = None
    origin_nm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    level: Level | None = None
    container: str = ""
    orientation: str = ""

    @classmethod
    def from_array(cls, array_zyx: np.ndarray, voxel_nm: Voxel | None = None, name: str = "array") -> "Volume":
        """A volume in memory, `z y x` or one image `y x`; it shares the array's memory.

        An array of dask, zarr or tensorstore works too: of it only what is asked for is read.
        """
        kind = "array"
        if isinstance(array_zyx, np.ndarray):
            array_zyx, kind = array_zyx.view(), "array in memory"
            array_zyx.flags.writeable = False
        stack = array_stack(array_zyx, name, kind)
        return cls._from_stack(name, dataclasses.replace(stack, voxel_nm=voxel_nm))

    @classmethod
    def _from_stack(cls, path: str, stack: Stack) -> "Volume":
        size = stack.voxel_nm
        described = (stack.path or path, stack.shape, stack.dtype, size, stack.format, stack.read, stack.names, size)
        return cls(*described, stack.origin_nm, stack.level, path, stack.orientation)

    @property
    def full_voxel_nm(self) -> Voxel | None:
        """(z, y, x) of level 0, where this is a level of a pyramid; else of this volume."""
        if self.level is None or self.voxel_nm is None:
            return self.voxel_nm
        return scaled(self.voxel_nm, [1 / factor for factor in self.level.factors])

    def at_level(self, full_voxel_nm: Voxel | None) -> "Volume":
        """This volume with the voxel size that level 0 has by another statement than the file's."""
        if full_voxel_nm is not None and self.level is not None:
            full_voxel_nm = scaled(full_voxel_nm, self.level.factors)
        return dataclasses.replace(self, voxel_nm=full_voxel_nm)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[z] for z in range(len(self)))

    def __getitem__(self, index: int | slice | tuple) -> np.ndarray:
        """Raises InputError where the file turns out to be damaged, naming the slice."""
        z, *yx = index if isinstance(index, tuple) else (index,)
        yx = [*yx, slice(None), slice(None)][:2] if len(yx) < 3 else yx
        if len(yx) != 2 or not all(isinstance(part, slice) and part.step in (None, 1) for part in yx):
            raise TypeError(f"volume[{index}]: expected volume[z, y0:y1, x0:x1]")
        y, x = (slice(*part.indices(length)[:2]) for part, length in zip(yx, self.shape[1:], strict=True))
        if not isinstance(z, slice):
            return self._region(range(len(self))[z], y, x)
        zs = range(len(self))[z]
        block = np.empty((len(zs), *(max(part.stop - part.start, 0) for part in (y, x))), self.dtype)
        for row, at in zip(block, zs, strict=True):
            row[...] = self._region(at, y, x)
        return block

    def crop(self, z: slice, y: slice, x: slice) -> "Volume":
        """What lies in these ranges, as a volume of its own; nothing is read."""
        zyx = [range(length)[part] for part, length in zip((z, y, x), self.shape, strict=True)]

        def read(at: int, rows: slice, columns: slice) -> np.ndarray:
            moved = (slice(r.start + p.start, r.start + p.stop) for r, p in zip(zyx[1:], (rows, columns), strict=True))
            return self._region(zyx[0][at], *moved)

        return dataclasses.replace(self, shape=tuple(map(len, zyx)), _read=read, names=self.names[z])

    def changed(self, change: Callable[[np.ndarray, int], np.ndarray]) -> "Volume":
        """This volume with `change(slice y x, z)`, of the same shape, in place of slice z; nothing is read."""
        return dataclasses.replace(self, _read=lambda z, y, x: change(self[z], z)[y, x])

    def _region(self, z: int, y: slice, x: slice) -> np.ndarray:
        try:
            return np.ascontiguousarray(self._read(z, y, x), self.dtype)
        except InputError:
            raise
        except Exception as error:  # each library has its own; all mean that the file is damaged
            if is_remote(self.path):
                with store_errors(f"{self.path}, slice {z}"):
                    raise
            damaged = f"slice {z} cannot be read ({_short(error)}); expected a whole file: copy it again"
            raise unreadable(self.path, error, damaged) from error

    def describe(self) -> str:
        """One line: where, format, level of a pyramid, axes, shape, type, voxel size."""
        sizes = ["?" if math.isnan(size) else f"{size:g}" for size in self.voxel_nm or ()]
        voxel = f"voxel {format_shape(sizes)} nm" if sizes else "voxel size unknown"
        level = f", level {self.level.index} of 0 to {self.level.last}" if self.level else ""
        return f"{self.path}: {self.format}{level}, axes z y x, {format_shape(self.shape)}, {self.dtype}, {voxel}"


def open_volume(
    path: str | Path | RemotePath,
    voxel_nm: Sequence[float] | None = None,
    verbose: bool = True,
    expected: Collection[tuple[int, int, int]] = (),
    choice: LevelChoice = FINEST,
    *,
    labels: bool = False,
) -> Volume:
    """Opens a file, a folder or an address (see `SUPPORTED`) without reading its pixels.

    Args:
        path: the file, folder or address; `file.h5:name`, `file.zarr:name` and `file.n5:name` name an array inside.
            `path[z0:z1,y0:y1,x0:x1]` is a box of it, in its voxels or, of a pyramid, in those of level 0.
        voxel_nm: (z, y, x) in nm, z nan where it is unknown; overrides what the file states, of level 0 of a pyramid.
        verbose: print what was understood.
        expected: shapes that would fit; they distinguish slices from colours, and the odd file of a folder.
        choice: the level of a pyramid that is read, unless `path` names an array inside.
        labels: of PNG with a palette of colours, read the indices instead of refusing it.

    Raises:
        InputError: no such path, unsupported, damaged, in colour, not one stack, no such level, or a store that does
            not answer.
    """
    file, inner = split_inner(path)
    if not isinstance(file, RemotePath) and not file.exists():
        raise _missing(file)
    if voxel_nm is not None:
        choice = dataclasses.replace(choice, voxel_nm=_checked_voxel(voxel_nm))
    try:
        stack = _read_stack(file, inner, Expected(expected, labels), choice)
    except InputError:
        raise
    except Exception as error:  # each library has its own; all mean that the content does not fit the name
        damaged = f"cannot be opened ({_short(error)}); expected a whole file of the kind that its name states"
        raise unreadable(file, error, f"{damaged}: check it, or copy it again") from error
    whole = split_box(path)[0]
    name = str(whole) if isinstance(file, Path) else ":".join(filter(None, (str(file), inner)))
    volume = Volume._from_stack(name, stack)
    if choice.voxel_nm is not None:
        volume = volume.at_level(choice.voxel_nm)
    if box := split_box(path)[1]:
        volume = _boxed(volume, box)
    if verbose:
        print(volume.describe())
    if verbose and volume.level and choice.level != "0":
        print(
            f"Level {volume.level.index} of 0 to {volume.level.last} is read: {stack.level_reason}"
            f"{f'; {choice.key}=0 reads the finest' if volume.level.index else ''}."
        )
    return volume


def _boxed(volume: Volume, text: str) -> Volume:
    full_shape = volume.level.full_shape if volume.level else volume.shape
    try:
        box = parse_box(text, whole(full_shape))
    except ValueError as error:
        raise InputError(
            f"{volume.container}[{text}]: {error}; the volume has {format_shape(full_shape)} voxels (z y x)"
        ) from None
    own = volume.level.from_full(box) if volume.level else box
    origin = (
        at if math.isnan(size) else at + part.start * size
        for at, part, size in zip(volume.origin_nm, own, volume.voxel_nm or (0, 0, 0), strict=True)
    )
    return dataclasses.replace(
        volume.crop(*own),
        path=f"{volume.path}[{format_box(own)}]",
        container=f"{volume.container}[{format_box(box)}]",
        origin_nm=tuple(origin),
        level=volume.level and volume.level.cropped(box, own),
    )


def split_inner(path: str | Path | RemotePath) -> tuple[Path | RemotePath, str | None]:
    """'a.h5:raw' -> (Path('a.h5'), 'raw'); (path, None) where it names no array inside a container.

    A path that exists is one, whatever colons it has. `a.h5/raw` is understood as well; of zarr and n5 it is a folder.
    """
    path = split_box(path)[0]
    if is_remote(path):
        address, inner = split_address(str(path))
        return as_place(address), inner
    whole = Path(path).expanduser()
    if whole.exists():
        return whole, None
    text = str(whole)
    for colon in (i for i in range(len(text) - 1, 0, -1) if text[i] == ":"):
        file = Path(text[:colon])
        if text[colon + 1 :] and (file.is_dir() or _is_container(file)):
            return file, text[colon + 1 :]
    for file in whole.parents:
        if file.is_file() and _is_container(file):
            return file, whole.relative_to(file).as_posix()
    return whole, None


def _is_container(file: Path) -> bool:
    kind = format_of(file)
    return file.suffix.lower() in chunked.SUFFIXES or (kind is not None and kind.holds_arrays)


def _read_stack(file: Path | RemotePath, inner: str | None, expected: Expected, choice: LevelChoice) -> Stack:
    if isinstance(file, RemotePath):
        return chunked.read_chunked(file, inner, choice)
    if file.is_dir():
        if inner is not None or chunked.is_chunked(file):
            return chunked.read_chunked(file, inner, choice)
        return image_folder.read_folder(file, {shape[1:] for shape in expected.shapes}, expected.labels)
    if kind := format_of(file):
        return kind.read(file, inner, expected)
    raise InputError(
        f"{file}: files of type '{file.suffix.lower()}' are not supported; expected {SUPPORTED}: {advice(file)}"
    )


def _missing(file: Path) -> InputError:
    if file.is_symlink():
        return InputError(f"{file}: is a link to {file.readlink()}, which does not exist: copy that as well")
    parent = next(folder for folder in file.absolute().parents if folder.exists())
    inside = sorted(child.name for child in parent.iterdir()) if parent.is_dir() else []
    some = f", with {', '.join(inside[:5])}{', ...' if len(inside) > 5 else ''}" if inside else ""
    return InputError(f"{file}: does not exist; the nearest folder that does is {parent}{some}: check the path")


def _checked_voxel(voxel_nm: Sequence[float]) -> Voxel:
    sizes = tuple(float(size) for size in voxel_nm)
    if not is_voxel(sizes):
        raise InputError(f"voxel_nm: got {voxel_nm}; expected three sizes above 0 (z, y, x) in nm, such as 30,8,8")
    return sizes


def _short(error: Exception) -> str:
    """The first line of a library's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def intensity_range(volume: Volume, zs: Sequence[int] | None = None) -> tuple[float, float]:
    """(low, high) = the quantiles RANGE_QUANTILES of at most 16 slices spread over `zs` (default: all).

    Of slices above 64 million pixels 16 squares of a thousand pixels are read. Padding, and slices or squares of a
    single grey if there are others, are left out: they lie beyond the tissue. At least one value is left out at either
    end, so that one hot pixel never counts.

    Raises:
        InputError: NaN or infinity in what is read.
    """
    zs = range(len(volume)) if zs is None else zs
    samples = []
    for z in evenly_spaced(zs, _RANGE_SLICES):
        for image, most in _range_pieces(volume, z):
            _check_finite(image, f"{volume.path}, slice {z}")
            step = math.ceil(math.sqrt(image.size / most))
            samples.append(tissue_values(image, step))
    values = np.concatenate([sample for sample in samples if sample.min() < sample.max()] or samples)
    values = values.view(np.uint8) if values.dtype == bool else values
    below, above = RANGE_QUANTILES
    return float(np.quantile(values, below, method="higher")), float(np.quantile(values, above, method="lower"))


def _range_pieces(volume: Volume, z: int) -> Iterator[tuple[np.ndarray, int]]:
    """(slice z, or squares of it on a 4 x 4 grid; how many of its pixels to use)."""
    if math.prod(volume.shape[1:]) <= _RANGE_WHOLE_PIXELS:
        yield volume[z], _RANGE_PIXELS
        return
    ys, xs = (np.linspace(0, max(length - 1024, 0), 4).astype(int) for length in volume.shape[1:])
    for y, x in itertools.product(ys, xs):
        yield volume[z, y : y + 1024, x : x + 1024], _RANGE_PIXELS // 16


def to_uint8(image_yx: np.ndarray, low_high: tuple[float, float], name: str = "image") -> np.ndarray:
    """Maps low..high to 0..255 linearly, clips the rest, rounds. `name` is for the message.

    Raises:
        InputError: NaN or infinity.
    """
    _check_finite(image_yx, name)
    low, high = low_high
    # float32 is exact for 8 and 16 bit; wider types keep their digits in float64.
    scaled = image_yx.astype(np.result_type(image_yx.dtype, np.float32))
    scaled -= low
    scaled *= 255 / (high - low) if high > low else 0
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def _check_finite(image: np.ndarray, name: str) -> None:
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int(np.count_nonzero(~np.isfinite(image)))
        raise InputError(
            f"{name}: holds {bad} pixels that are NaN or infinite; expected numbers: replace them, by 0 for instance "
            "(Fiji: Process > Math > NaN Background, or numpy.nan_to_num)"
        )
