"""Write a volume slice by slice: compressed TIFF or OME-Zarr (zarr 3)."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from dualrel_jax.errors import InputError

SUFFIXES = (".tif", ".tiff", ".zarr")
_CREATOR = "dualrel_jax"
_CHUNK = 1024  # y and x of a zarr chunk, one slice deep since slices come one at a time
_BIG_TIFF_BYTES = 4_000_000_000  # before compression; a classic TIFF ends at 2**32

Voxel = tuple[float, float, float]


class VolumeWriter:
    """A context manager: `with open_writer(...) as writer: writer.write(z, slice_yx)`, z = 0, 1, 2, ...

    What is written bears the name `<path>.part` until it is complete, so a file under its own name is whole.
    """

    def __init__(self, path: Path, shape_zyx: tuple[int, int, int], dtype: np.dtype, voxel_nm: Voxel | None):
        self.path, self.shape, self.dtype, self.voxel_nm = path, tuple(shape_zyx), np.dtype(dtype), voxel_nm
        self._part = path.with_name(path.name + ".part")
        self._next = 0

    def __enter__(self) -> "VolumeWriter":
        with self._disk_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove(self._part)
            self._open()
        return self

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

    def __len__(self) -> int:
        return self.shape[0]

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None and self._next == len(self):
            with self._disk_errors():
                self._close()
                _remove(self.path)
                os.replace(self._part, self.path)
            return
        with contextlib.suppress(Exception):  # what stopped the writing is the error to report
            self._close()
        _remove(self._part)
        if error is None:
            raise ValueError(f"{self.path}: only {self._next} of {len(self)} slices were written")

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # tensorstore reports a full disk as a ValueError, the reason last
            reason = str(error).split(" [os_error_code")[0].rsplit(": ", 1)[-1]
            raise InputError(
                f"{self.path}: cannot be written ({getattr(error, 'strerror', None) or reason}); expected a folder "
                "with room and leave to write: free some space or choose another output"
            ) from error

    def _open(self) -> None:
        raise NotImplementedError

    def _write(self, z: int, slice_yx: np.ndarray) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError


class _TiffWriter(VolumeWriter):
    def _open(self) -> None:
        size = math.prod(self.shape) * self.dtype.itemsize
        self._file = tifffile.TiffWriter(self._part, bigtiff=size > _BIG_TIFF_BYTES)

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
            software=_CREATOR,
        )

    def _description(self) -> str:
        """What Fiji reads: number of slices, unit, distance of slices."""
        lines = ["ImageJ=1.54f", f"images={len(self)}", f"slices={len(self)}", "loop=false"]
        if self.voxel_nm is not None:
            z = self.voxel_nm[0]
            lines += ["unit=nm"] + ([] if math.isnan(z) else [f"spacing={z!r}"])
        return "\n".join(lines) + "\n"

    def _close(self) -> None:
        self._file.close()


class _ZarrWriter(VolumeWriter):
    def _open(self) -> None:
        import tensorstore as ts

        self._part.mkdir()
        (self._part / "zarr.json").write_text(json.dumps(self._group(), indent=2))
        chunk = [1, *(min(length, _CHUNK) for length in self.shape[1:])]
        metadata = {
            "shape": self.shape,
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 3}}],
            "dimension_names": ["z", "y", "x"],
        }
        kvstore = {"driver": "file", "path": f"{self._part}/0/"}
        self._store = ts.open({"driver": "zarr3", "kvstore": kvstore, "metadata": metadata, "create": True}).result()

    def _group(self) -> dict:
        """OME-Zarr 0.5: one level, its voxel size in nm."""
        sizes = self.voxel_nm or (math.nan,) * 3
        known = [not math.isnan(size) for size in sizes]
        axes = [
            {"name": name, "type": "space"} | ({"unit": "nanometer"} if sure else {})
            for name, sure in zip("zyx", known, strict=True)
        ]
        scale = [size if sure else 1.0 for size, sure in zip(sizes, known, strict=True)]
        level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        ome = {"version": "0.5", "multiscales": [{"name": self.path.stem, "axes": axes, "datasets": [level]}]}
        return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome, "creator": _CREATOR}}

    def _write(self, z: int, slice_yx: np.ndarray) -> None:
        self._store[z].write(slice_yx).result()

    def _close(self) -> None:
        self._store = None


def open_writer(
    path: str | Path, shape_zyx: tuple[int, int, int], dtype: np.dtype | type, voxel_nm: Voxel | None = None
) -> VolumeWriter:
    """A writer for `.tif` or `.zarr`; an earlier output of that name is replaced when the new one is complete.

    Raises:
        InputError: another suffix, or a folder in the way that is no zarr.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: is of no type that can be written; expected {', '.join(SUFFIXES)}: rename the output"
        )
    if path.is_dir() and not _is_ours(path):
        raise InputError(f"{path}: is a folder that dualrel_jax did not write; expected a free name: choose another")
    kind = _ZarrWriter if path.suffix.lower() == ".zarr" else _TiffWriter
    return kind(path, shape_zyx, np.dtype(dtype), voxel_nm)


def _is_ours(folder: Path) -> bool:
    group = folder / "zarr.json"
    return group.is_file() and json.dumps({"creator": _CREATOR})[1:-1] in group.read_text()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
