"""OME-Zarr 0.5 images: one array a resolution, each with its voxel size, written and halved block by block."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.data.io.remote import RemotePath, as_place, context_spec, kvstore_spec
from dualrel_jax.utils.tasks import Tasks, in_this_process

CHUNK = (32, 256, 256)  # z y x; 2 MiB of uint8: few files, and viewers that cut along any axis load little in vain
SHARD_BYTES = 256 << 20  # before compression
_PART_CHUNKS = (4, 4, 4)  # of a level that one task makes, z y x
REDUCTIONS = ("stride", "mean", "majority")
CREATOR = "dualrel_jax"

Shape = tuple[int, int, int]


def level_factors(shape: Shape, voxel_nm: tuple[float, float, float] | None) -> list[Shape]:
    """Voxels z y x of the volume in one voxel of each level, from (1, 1, 1) until a slice fits a chunk.

    y and x are halved from level to level, z only as far as its voxels do not become longer than theirs: anisotropic
    volumes are made isotropic first. Where the distance of slices is unknown z is left as it is.
    """
    z_nm, y_nm, x_nm = voxel_nm or (math.nan,) * 3
    z, factor = 1, 1
    factors = [(1, 1, 1)]
    while any(-(-length // factor) > chunk for length, chunk in zip(shape[1:], CHUNK[1:], strict=True)):
        factor *= 2
        if 2 * z * z_nm <= factor * min(y_nm, x_nm) * math.sqrt(2) and z < shape[0]:
            z *= 2
        factors.append((z, factor, factor))
    return factors


def group_metadata(
    name: str,
    factors: list[Shape],
    voxel_nm: tuple | None,
    offset: Shape,
    reduction: str,
    *,
    origin_nm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> dict:
    """zarr.json of the group: axes with units, and the scale and translation of each level.

    `offset` is the first voxel z y x in the volume that this is a region of, whose own first voxel lies at `origin_nm`.
    Averaged voxels lie half a voxel further
    with each halving. Sizes that are unknown are 1, without a unit.
    """
    sizes = voxel_nm or (math.nan,) * 3
    known = [not math.isnan(size) for size in sizes]
    axes = [
        {"name": name, "type": "space"} | ({"unit": "nanometer"} if sure else {})
        for name, sure in zip("zyx", known, strict=True)
    ]
    unit = [size if sure else 1.0 for size, sure in zip(sizes, known, strict=True)]

    def steps(factor: Shape) -> list[dict]:
        scale = [n * size for n, size in zip(factor, unit, strict=True)]
        centre = [0.0 if reduction == "stride" else (n - 1) / 2 for n in factor]
        placed = zip(offset, centre, unit, origin_nm, known, strict=True)
        shift = [(start + half) * size + (at if sure else 0.0) for start, half, size, at, sure in placed]
        translation = [{"type": "translation", "translation": shift}] if any(shift) else []
        return [{"type": "scale", "scale": scale}, *translation]

    levels = [{"path": str(i), "coordinateTransformations": steps(factor)} for i, factor in enumerate(factors)]
    scales = {"name": name, "type": reduction, "axes": axes, "datasets": levels}
    ome = {"version": "0.5", "multiscales": [scales]}
    return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome, "creator": CREATOR}}


def is_ours(folder: Path | RemotePath) -> bool:
    mark = json.dumps({"creator": CREATOR})[1:-1]
    if isinstance(folder, RemotePath):
        return mark.encode() in folder.read_files(["zarr.json"]).get("zarr.json", b"")
    group = folder / "zarr.json"
    return group.is_file() and mark in group.read_text()


def open_level(
    folder: Path | RemotePath, level: int, shape: Shape, dtype: np.dtype, *, shard: Shape | None = None, create=True
) -> Any:
    """The tensorstore array of one level; created, if asked, where it does not exist. Zeros take no space.

    `shard`: z y x of what one file holds, as `shard_shape` gives it; None: one chunk.
    """
    import tensorstore as ts

    chunk = [min(length, most) for length, most in zip(shape, CHUNK, strict=True)]
    codecs = [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 3}}]
    stored = chunk
    if shard is not None:
        stored = [-(-min(length, most) // n) * n for length, most, n in zip(shape, shard, chunk, strict=True)]
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        inner = {"chunk_shape": chunk, "codecs": codecs, "index_codecs": index}
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    metadata = {
        "shape": shape,
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": stored}},
        "codecs": codecs,
        "dimension_names": ["z", "y", "x"],
    }
    remote = isinstance(folder, RemotePath)
    spec = {"driver": "zarr3", "kvstore": kvstore_spec(folder / str(level)), "metadata": metadata}
    return ts.open(spec, open=True, create=create, context=ts.Context(context_spec() if remote else {})).result()


def shard_shape(itemsize: int) -> Shape:
    """z y x of a shard: chunks that hold at most `SHARD_BYTES`, eight by eight in a slice and the more along z."""
    shard = list(CHUNK)
    for axis in itertools.chain((2, 1) * 3, itertools.repeat(0)):
        if 2 * math.prod(shard) * itemsize > SHARD_BYTES:
            return tuple(shard)
        shard[axis] *= 2


@dataclass(frozen=True)
class Pyramid:
    """The lower resolutions of an image in a folder, each made from the one before.

    Attributes:
        folder: of the group.
        shape: z y x of level 0.
        dtype: name of the voxels' type.
        factors: voxels of the volume in one voxel of each level, as `level_factors` gives them.
        reduction: one of REDUCTIONS.
        shard: of each level, as in `open_level`.
    """

    folder: str
    shape: Shape
    dtype: str
    factors: tuple[Shape, ...]
    reduction: str
    shard: Shape | None = None

    def parts(self, level: int) -> Iterator["LevelPart"]:
        """What several processes may make at once of a level whose predecessor is complete."""
        for corner in _corners(self._shape_of(level), self._part()):
            yield LevelPart(self, level, corner)

    def _part(self) -> Shape:
        return self.shard or tuple(chunk * n for chunk, n in zip(CHUNK, _PART_CHUNKS, strict=True))

    def make(self, level: int, corner: Shape) -> None:
        """Makes the part of a level at this corner; in memory are the eight chunks that become one."""
        above, store = (self._open(number) for number in (level - 1, level))
        step = tuple(n // m for n, m in zip(self.factors[level], self.factors[level - 1], strict=True))
        ends = (at + length for at, length in zip(corner, self._part(), strict=True))
        extent = tuple(min(end, length) - at for end, length, at in zip(ends, store.shape, corner, strict=True))
        shard = None if self.shard is None else np.zeros(extent, store.dtype.numpy_dtype)
        for inside in _corners(extent, CHUNK):
            at_zyx = tuple(at + i for at, i in zip(corner, inside, strict=True))
            parts = list(zip(at_zyx, CHUNK, step, above.shape, strict=True))
            source = tuple(slice(at * s, min((at + n) * s, end)) for at, n, s, end in parts)
            if above[source].storage_statistics(query_not_stored=True).result().not_stored:
                continue  # zeros
            small = reduced(above[source].read().result(), step, self.reduction)
            origin = at_zyx if shard is None else inside
            target = tuple(slice(at, at + n) for at, n in zip(origin, small.shape, strict=True))
            if shard is None:
                store[target].write(small).result()
            else:
                shard[target] = small
        if shard is not None and shard.any():  # written once, whole
            store[tuple(slice(at, at + n) for at, n in zip(corner, extent, strict=True))].write(shard).result()

    def make_all(self, tasks: Tasks = in_this_process) -> None:
        """The parts of a level are independent tasks, one level after the other."""
        for level in range(1, len(self.factors)):
            for _ in tasks(make_level_part, self.parts(level)):
                pass

    def _shape_of(self, level: int) -> Shape:
        return tuple(-(-n // factor) for n, factor in zip(self.shape, self.factors[level], strict=True))

    def _open(self, level: int) -> Any:
        return open_level(as_place(self.folder), level, self._shape_of(level), np.dtype(self.dtype), shard=self.shard)


@dataclass(frozen=True)
class LevelPart:
    """A part of one level that one process makes."""

    pyramid: Pyramid
    level: int
    corner: Shape

    def __str__(self) -> str:
        return f"the part of {self.pyramid.folder}/{self.level} at {self.corner} (z, y, x)"


def make_level_part(part: LevelPart) -> None:
    part.pyramid.make(part.level, part.corner)


def _corners(shape: Shape, step: Shape) -> Iterator[Shape]:
    return itertools.product(*(range(0, length, size) for length, size in zip(shape, step, strict=True)))


def reduced(block: np.ndarray, step: Shape, reduction: str) -> np.ndarray:
    """`z y x` with `step` voxels along each axis become one; at the far border of what there is.

    stride: the first of them, right for numbers of instances. mean: their mean, rounded. majority: for masks of 0 and
    one other value, what at least half of them are.
    """
    if reduction == "stride":
        return block[tuple(slice(None, None, s) for s in step)]
    padded = np.pad(block, [(0, -n % s) for n, s in zip(block.shape, step, strict=True)], mode="edge")
    z, y, x = (n // s for n, s in zip(padded.shape, step, strict=True))
    mean = padded.reshape(z, step[0], y, step[1], x, step[2]).mean(axis=(1, 3, 5), dtype=np.float32)
    if reduction == "majority":
        top = block.max()
        return np.where(mean * 2 >= top, top, 0).astype(block.dtype)
    return (np.rint(mean) if block.dtype.kind in "iu" else mean).astype(block.dtype)
