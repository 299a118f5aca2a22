"""Write a volume block by block: compressed TIFF or OME-Zarr (zarr 3)."""

import abc
import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from dualrel_jax.data.io import ome_zarr
from dualrel_jax.data.io.remote import RemotePath, as_place, remove, store_errors
from dualrel_jax.data.io.scratch import disk_errors
from dualrel_jax.data.io.volume import split_inner
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.errors import InputError
from dualrel_jax.utils.atomic import removed_when_stopped
from dualrel_jax.utils.tasks import Tasks, in_this_process

SUFFIXES = (".tif", ".tiff", ".zarr")
_BIG_TIFF_BYTES = 4_000_000_000  # before compression; a classic TIFF ends at 2**32


class VolumeWriter(abc.ABC):
    """A context manager: `with open_writer(...) as writer: writer.write(z, slice_yx)`, z = 0, 1, 2, ...

    What is written bears the name `<path>.part` until it is complete, so a file under its own name is whole.

    Attributes:
        chunk: (z, y, x) of the blocks that are stored at once, which other blocks had better be multiples of.
        resumable: `write_block` takes blocks in any order, and with `keep` what a kill left is continued; that all
            blocks were written is then the caller's to know.
        pyramid: the lower resolutions of a zarr, which `finish` makes.
        discarded: see `discard`.
    """

    resumable = False
    pyramid: ome_zarr.Pyramid | None = None

    def __init__(self, path: Path, shape_zyx: tuple[int, int, int], dtype: np.dtype, voxel_nm: Voxel | None):
        self.path, self.shape, self.dtype, self.voxel_nm = path, tuple(shape_zyx), np.dtype(dtype), voxel_nm
        self.chunk = (1, *self.shape[1:])
        self.part = path.with_name(path.name + ".part")
        self._replaced = path.with_name(path.name + ".replaced.part")
        self._next = 0
        self._keep = self._finished = self._published = self.discarded = False
        self._cleaning = contextlib.ExitStack()

    def __enter__(self) -> "VolumeWriter":
        with self._disk_errors():
            if isinstance(self.path, Path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                remove(self._replaced)
            if not (self._keep and self.resumable):
                remove(self.part)
            self._open()
        if isinstance(self.part, Path) and not (self._keep and self.resumable):
            self._cleaning.enter_context(removed_when_stopped(self.part))
        return self

    @contextlib.contextmanager
    def joined(self) -> Iterator["VolumeWriter"]:
        """For one of several processes that write blocks into what another has entered; completes and removes nothing.

        Two processes must not write one block of `chunk` at the same time.
        """
        with self._disk_errors():
            self._join()
        try:
            yield self
        finally:
            self._abandon()

    def write(self, z: int, slice_yx: np.ndarray) -> None:
        """Raises InputError where the disk is full or not writable."""
        if z != self._next or z >= len(self):
            raise ValueError(f"{self.path}: got slice {z}, expected {self._next} of {len(self)}")
        if slice_yx.shape != self.shape[1:] or slice_yx.dtype != self.dtype:
            raise ValueError(
                f"{self.path}: got {slice_yx.shape} {slice_yx.dtype}, expected {self.shape[1:]} {self.dtype}"
            )
        with self._disk_errors():
            self._write(z, np.ascontiguousarray(slice_yx))
        self._next += 1

    def write_block(self, corner_zyx: tuple[int, int, int], block: np.ndarray) -> None:
        """Writes `z y x`, first voxel at `corner_zyx`; a writer that is not resumable takes whole slices in order."""
        for z, slice_yx in enumerate(block, start=corner_zyx[0]):
            self.write(z, slice_yx)

    @abc.abstractmethod
    def read_block(self, box_zyx: tuple[slice, slice, slice]) -> np.ndarray:
        """What was written in a box, `z y x`; of a writer that is not resumable after `finish`."""

    def discard(self) -> None:
        """What is written serves this command alone: leaving the context removes it, and it never gets its name."""
        self.discarded = True

    def finish(self, tasks: Tasks = in_this_process) -> None:
        """Completes what lies under the name `part`, all blocks written; leaving the context then only renames it.

        Args:
            tasks: how the lower resolutions are made.
        """
        if not self._finished:
            with self._disk_errors():
                if self.pyramid is not None and not self.discarded:
                    self.pyramid.make_all(tasks)
                self._finish()
            self._finished = True

    def publish(self) -> None:
        """Gives the whole volume its name, all blocks written; leaving the context then deletes what it replaced.

        Of several outputs each is to be published before the first context is left: to delete a large one takes long.
        """
        self.finish()
        if not self._published and not self.discarded:
            with self._disk_errors():
                self._publish()
            self._published = True

    def __len__(self) -> int:
        return self.shape[0]

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        with self._cleaning:
            self._close(error)

    def _close(self, error: BaseException | None) -> None:
        if error is None and self.discarded:
            self._abandon()
            remove(self.part)
            return
        if error is None and (self._keep or self._next == len(self)):
            self.publish()
        if self._published:
            if isinstance(self._replaced, Path):
                with self._disk_errors():
                    remove(self._replaced)
            return
        with contextlib.suppress(Exception):  # what stopped the writing is the error to report
            self._abandon()
        if not self._keep:
            remove(self.part)
        if error is None:
            raise ValueError(f"{self.path}: only {self._next} of {len(self)} slices were written")

    def _publish(self) -> None:
        """An earlier folder is renamed, not deleted: a kill leaves it whole, or the new one."""
        if self.path.is_dir():
            os.replace(self.path, self._replaced)
        os.replace(self.part, self.path)

    def _disk_errors(self) -> contextlib.AbstractContextManager[None]:
        return store_errors(self.path) if isinstance(self.path, RemotePath) else disk_errors(self.path)

    @abc.abstractmethod
    def _open(self) -> None: ...

    def _join(self) -> None:
        raise InputError(f"{self.path}: is written by one process; expected a name that ends in .zarr for several")

    @abc.abstractmethod
    def _write(self, z: int, slice_yx: np.ndarray) -> None: ...

    @abc.abstractmethod
    def _finish(self) -> None: ...

    @abc.abstractmethod
    def _abandon(self) -> None: ...


class _TiffWriter(VolumeWriter):
    def _open(self) -> None:
        size = math.prod(self.shape) * self.dtype.itemsize
        self._file = tifffile.TiffWriter(self.part, bigtiff=size > _BIG_TIFF_BYTES)

    def _write(self, z: int, slice_yx: np.ndarray) -> None:
        _, y, x = self.voxel_nm or (1, 1, 1)
        self._file.write(
            slice_yx,
            photometric="minisblack",
            compression="zlib",
            predictor=self.dtype.kind in "iu" and self.dtype.itemsize > 1,
            contiguous=False,
            metadata=None,
            description=self._description() if z == 0 else None,
            resolution=(1 / x, 1 / y),
            resolutionunit="NONE",
            software=ome_zarr.CREATOR,
        )

    def _description(self) -> str:
        """What Fiji reads: number of slices, unit, distance of slices."""
        lines = ["ImageJ=1.54f", f"images={len(self)}", f"slices={len(self)}", "loop=false"]
        if self.voxel_nm is not None:
            z = self.voxel_nm[0]
            lines += ["unit=nm"] + ([] if math.isnan(z) else [f"spacing={z!r}"])
        return "\n".join(lines) + "\n"

    def read_block(self, box_zyx: tuple[slice, slice, slice]) -> np.ndarray:
        z, *yx = box_zyx
        slices = tifffile.imread(self.part, key=range(*z.indices(len(self)))).reshape(-1, *self.shape[1:])
        return slices[:, *yx]

    def _finish(self) -> None:
        self._file.close()

    _abandon = _finish


class _ZarrWriter(VolumeWriter):
    resumable = True

    def __init__(self, *args, offset: tuple[int, int, int], origin_nm: tuple, reduction: str, keep: bool, shards: bool):
        super().__init__(*args)
        shard = ome_zarr.shard_shape(self.dtype.itemsize) if shards else None
        self.chunk = shard or ome_zarr.CHUNK
        self._offset, self._keep = offset, keep
        factors = tuple(ome_zarr.level_factors(self.shape, self.voxel_nm))
        self.pyramid = ome_zarr.Pyramid(str(self.part), self.shape, self.dtype.name, factors, reduction, shard)
        self._origin_nm = origin_nm
        self._slices: list[np.ndarray] = []  # of one layer of chunks

    def _open(self) -> None:
        self.part.mkdir(exist_ok=True)
        self._write_group()
        self._open_finest(create=True)

    def _write_group(self) -> None:
        layout = (self.pyramid.factors, self.voxel_nm, self._offset, self.pyramid.reduction)
        group = ome_zarr.group_metadata(self.path.stem, *layout, origin_nm=self._origin_nm)
        (self.part / "zarr.json").write_text(json.dumps(group, indent=2))

    def _open_finest(self, create: bool) -> None:
        self._store = ome_zarr.open_level(self.part, 0, self.shape, self.dtype, shard=self.pyramid.shard, create=create)

    def _join(self) -> None:
        self._open_finest(create=False)

    def write_block(self, corner_zyx: tuple[int, int, int], block: np.ndarray) -> None:
        if block.any():  # zeros are what a chunk holds that was never written
            where = tuple(slice(at, at + length) for at, length in zip(corner_zyx, block.shape, strict=True))
            with self._disk_errors():
                self._store[where].write(block).result()

    def read_block(self, box_zyx: tuple[slice, slice, slice]) -> np.ndarray:
        with self._disk_errors():
            return self._store[box_zyx].read().result()

    def _write(self, z: int, slice_yx: np.ndarray) -> None:
        self._slices.append(slice_yx.copy())
        if len(self._slices) == self.chunk[0] or z == len(self) - 1:
            self._store[z + 1 - len(self._slices) : z + 1].write(np.stack(self._slices)).result()
            self._slices = []

    def _finish(self) -> None:
        self._store = None

    def _abandon(self) -> None:
        self._store = None


class _StoreWriter(_ZarrWriter):
    """An image in an object store, where nothing is renamed: the group's metadata, written last, complete it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.part = self.path
        self.pyramid = dataclasses.replace(self.pyramid, folder=str(self.path))

    def _open(self) -> None:
        self._open_finest(create=True)

    def _publish(self) -> None:
        self._write_group()


def open_writer(
    path: str | Path | RemotePath,
    shape_zyx: tuple[int, int, int],
    dtype: np.dtype | type,
    voxel_nm: Voxel | None = None,
    *,
    offset: tuple[int, int, int] = (0, 0, 0),
    origin_nm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    reduction: str = "stride",
    keep: bool = False,
    shards: bool = False,
) -> VolumeWriter:
    """A writer for `.tif` or `.zarr`; an earlier output of that name is replaced when the new one is complete.

    In a store the earlier output is to be removed before, by `remote.remove`: there nothing can be renamed.

    Args:
        path: its suffix names the format; in a store, `.zarr`.
        shape_zyx: of the whole volume.
        dtype: of its voxels.
        voxel_nm: (z, y, x); z may be nan.
        offset: zarr: the first voxel in the volume that this is a region of.
        origin_nm: zarr: where the first voxel of that volume lies.
        reduction: zarr: how lower resolutions are made, one of `ome_zarr.REDUCTIONS`.
        keep: zarr: an error or a kill leaves `<path>.part`, in which the next writer of that name continues.
        shards: zarr: many chunks share a file, of about `ome_zarr.SHARD_BYTES` before compression.

    Raises:
        InputError: another suffix, or a folder in the way that is no zarr.
    """
    path = as_place(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: is of no type that can be written; expected {', '.join(SUFFIXES)}: rename the output"
        )
    if ":" in path.name:
        raise InputError(
            f"{path}: has a colon in its name, which names what is inside a file (FILE:NAME); expected none: rename "
            "the output"
        )
    if isinstance(path, Path) and path.is_dir() and not ome_zarr.is_ours(path):
        raise InputError(f"{path}: is a folder that dualrel_jax did not write; expected a free name: choose another")
    layout = (path, shape_zyx, np.dtype(dtype), voxel_nm)
    if path.suffix.lower() == ".zarr":
        writer = _StoreWriter if isinstance(path, RemotePath) else _ZarrWriter
        kept = {"keep": keep, "shards": shards}
        return writer(*layout, offset=offset, origin_nm=origin_nm, reduction=reduction, **kept)
    return _TiffWriter(*layout)


def check_outputs(outputs: Iterable[Path | RemotePath], inputs: Iterable[str | Path], key: str) -> None:
    """Checks that nothing to be written replaces an input or lies among its slices or chunks; empty inputs pass.

    Raises:
        InputError: such an output; `key` is the config field that names it.
    """
    files = [split_inner(path)[0].resolve() for path in inputs if path]
    for output in outputs:
        place = output.expanduser().resolve()
        for file in files:
            if type(place) is not type(file):
                continue
            if place == file and file.exists() or place in file.parents:
                raise InputError(f"{key}: {output} would replace the volume itself; choose another name.")
            if file.is_dir() and place.is_relative_to(file):
                raise InputError(f"{key}: {output} lies in {file}, the volume itself; choose another folder.")
