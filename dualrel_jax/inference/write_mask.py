"""Makes the mask of a region from its probabilities on disk, box by box: in this process, or by tasks."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from dualrel_jax.data.io.remote import as_place
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.data.io.writers import VolumeWriter, open_writer
from dualrel_jax.inference.unsure_parts import NONE, BoxParts, find_unsure, measure_parts, read_extent, sure_mask
from dualrel_jax.inference.windows import TaskBox
from dualrel_jax.utils import boxes, interrupt
from dualrel_jax.utils.boxes import Shape
from dualrel_jax.utils.tasks import Tasks, in_this_process

SIDES = (64, 512, 512)  # z y x of a box, voxels


@dataclass(frozen=True)
class MaskJob:
    """What all boxes of a mask share, as plain values.

    Attributes:
        mask, probability: path of each; what is written has not got its name yet.
        shape, voxel_nm: of both.
        shards: as they were opened with.
        sides: of the boxes in which parts are found.
        threshold: probability above which a voxel is mitochondrion.
    """

    mask: str
    probability: str
    shape: Shape
    voxel_nm: Voxel | None
    shards: bool
    sides: Shape
    threshold: float

    def joined(self, path: str) -> contextlib.AbstractContextManager[VolumeWriter]:
        """The writer of `mask` or `probability`, in any process."""
        place = as_place(path)
        return open_writer(place, self.shape, np.uint8, self.voxel_nm, keep=True, shards=self.shards).joined()


@dataclass(frozen=True)
class Block:
    """Boxes that are written at once.

    Attributes:
        box: all of them together, in voxels of the mask.
        unsure: of each box of `boxes.grid` inside it, n bool: which of its parts are left out.
    """

    box: TaskBox
    unsure: tuple[np.ndarray, ...] = ()

    def __str__(self) -> str:
        return f"mask of {self.box}"


def write_mask(
    mask: VolumeWriter,
    probability: VolumeWriter,
    threshold: float,
    margin: float,
    *,
    shards: bool = False,
    tasks: Tasks = in_this_process,
) -> int:
    """Writes the mask (0 / 255), of probabilities above `threshold`, without its unsure parts; -> its voxels.

    Args:
        mask, probability: open writers of one shape; the probabilities, 0..255, are finished.
        margin: as `find_unsure` takes it; NONE: nothing is left out.
        shards: as both were opened with.
        tasks: how boxes are done, where the writers are those of a zarr.
    """
    sides = tuple(map(min, SIDES, mask.shape)) if mask.resumable else _slabs(mask.shape)
    job = MaskJob(str(mask.path), str(probability.path), mask.shape, mask.voxel_nm, shards, sides, threshold)
    opened = None if mask.resumable else (mask, probability)  # one process alone writes a TIFF
    grid = boxes.grid(mask.shape, sides)
    unsure = [np.zeros(0, bool)] * len(grid)
    then = "continues" if mask.resumable else "starts again; one with a .zarr output would continue"
    interrupt.describe(f"Stopped while the mask was made; the same command {then}.", patience_s=interrupt.PATIENCE_S)
    if margin < NONE:
        every = [Block(TaskBox.of(box)) for box in grid]
        found = dict(_work(functools.partial(measure_block, job, opened), every, tasks, name="parts"))
        unsure, count, fraction = find_unsure([found[block] for block in every], mask.shape, sides, margin)
        if count:
            tqdm.write(
                f"{count} {'part' if count == 1 else 'parts'} of the mask, {100 * fraction:.1f} % of it, of which the "
                f"network is not sure: left out (predict.unsure_margin={margin:g})."
            )
    at_once = tuple(map(math.lcm, sides, mask.chunk)) if mask.resumable else sides
    blocks = [
        Block(TaskBox.of(box), tuple(unsure[i] for i, _ in boxes.overlapping(box, mask.shape, sides)))
        for box in boxes.grid(mask.shape, at_once)
    ]
    return sum(count for _, count in _work(functools.partial(write_block, job, opened), blocks, tasks, name="mask"))


def measure_block(job: MaskJob, opened: tuple[VolumeWriter, VolumeWriter] | None, block: Block) -> BoxParts:
    """The parts in one box.

    Args:
        opened: writers of the mask and of the probabilities in this process; None: they are joined.
    """
    box = block.box.slices
    with _writers(job, opened) as (_, probability):
        values = probability.read_block(read_extent(box, job.shape))
    return measure_parts(values, job.threshold, box, job.shape)


def write_block(job: MaskJob, opened: tuple[VolumeWriter, VolumeWriter] | None, block: Block) -> int:
    """Writes the mask in some boxes; -> its voxels there. `opened` as in `measure_block`."""
    region = block.box.slices
    whole = np.zeros(boxes.size(region), np.uint8)
    with _writers(job, opened) as (mask, probability):
        inside = boxes.overlapping(region, job.shape, job.sides)
        for (_, box), unsure in zip(inside, block.unsure, strict=True):
            values = probability.read_block(read_extent(box, job.shape))
            sure = sure_mask(values, job.threshold, unsure, box, job.shape)
            whole[boxes.within(box, region)] = np.where(sure, np.uint8(255), np.uint8(0))
        mask.write_block(tuple(part.start for part in region), whole)
    return int(np.count_nonzero(whole))


@contextlib.contextmanager
def _writers(job: MaskJob, opened: tuple[VolumeWriter, VolumeWriter] | None) -> Iterator[tuple]:
    if opened:
        yield opened
        return
    with job.joined(job.mask) as mask, job.joined(job.probability) as probability:
        yield mask, probability


def _slabs(shape: Shape) -> Shape:
    """Whole slices, as many as a box has voxels, for what is read and written slice by slice."""
    return (min(max(math.prod(SIDES) // (shape[1] * shape[2]), 1), shape[0]), *shape[1:])


def _work(function: Callable[[Block], Any], todo: list[Block], tasks: Tasks, *, name: str) -> Iterator[tuple]:
    with tqdm(total=len(todo), desc=name, unit="box", mininterval=2) as bar:
        for block, result in tasks(function, todo):
            yield block, result
            bar.update()
            interrupt.check()
