"""What is done with one box of a volume, from files to files: any process may do it, more than once.

Files of a job, in its folder: `labels/` the parts of each box, numbered from 1 in each; `boxes/I.npz` their sums and
their graph; `numbers.npz` the instance of each part, once all boxes are stitched; `blocks/I.npz` surfaces and extents.
"""

import dataclasses
import functools
import io
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.io.scratch import disk_errors, open_scratch
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.instances import morphometry
from dualrel_jax.instances.morphometry import Parts, Sums
from dualrel_jax.instances.segment import check_range, label_box
from dualrel_jax.instances.stitch import Basins, Passes
from dualrel_jax.metrics.segmentation import above
from dualrel_jax.utils import boxes
from dualrel_jax.utils.atomic import write_bytes
from dualrel_jax.utils.boxes import Box, Shape

CHUNK = 64  # side of the chunks of the labels, of which boxes are multiples, if they are not smaller


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that the instances of a volume depend on, in plain values.

    Attributes:
        folder: of the files of this job.
        volume: path of the probabilities.
        shape, voxel_nm: of the volume.
        threshold: probability above which a voxel is foreground; None: where the value is not 0.
        hole_um3, neck_depth_nm, neck_ratio, min_um3, min_probability: see configs/base.py.
        sides: `z y x` of a box.
        command: drawn anew by each, so that a worker that outlives one opens no file of another again.
    """

    folder: str
    volume: str
    shape: Shape
    voxel_nm: Voxel
    threshold: float | None
    hole_um3: float
    neck_depth_nm: float
    neck_ratio: float
    min_um3: float
    min_probability: float
    sides: tuple[int, int, int]
    command: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def rules(self) -> ConfigDict:
        return ConfigDict({key: getattr(self, key) for key in ("hole_um3", "neck_depth_nm", "neck_ratio", "min_um3")})

    def grid(self) -> list[Box]:
        return boxes.grid(self.shape, self.sides)

    def box_file(self, i: int) -> Path:
        return Path(self.folder) / "boxes" / f"{i}.npz"

    def block_file(self, i: int) -> Path:
        return Path(self.folder) / "blocks" / f"{i}.npz"

    @property
    def numbers_file(self) -> Path:
        return Path(self.folder) / "numbers.npz"


@dataclasses.dataclass(frozen=True)
class BoxTask:
    """A box of a job.

    Attributes:
        job: what is to be done.
        i: position of the box in its grid.
        box: start and stop along z, y, x.
        target: zarr to write the numbers to: (path, dtype); None: they are only measured.
    """

    job: Job
    i: int
    box: tuple[tuple[int, int], ...]
    target: tuple[str, str] | None = None

    def __str__(self) -> str:
        return "box " + ",".join(f"{start}:{stop}" for start, stop in self.box)

    @property
    def slices(self) -> Box:
        return tuple(slice(*ends) for ends in self.box)


def tasks_of(job: Job, sides: Sequence[int], target: tuple[str, str] | None = None) -> list[BoxTask]:
    """One task for each box of these sides."""
    return [
        BoxTask(job, i, tuple((part.start, part.stop) for part in box), target)
        for i, box in enumerate(boxes.grid(job.shape, sides))
    ]


def label_task(task: BoxTask) -> None:
    """Divides one box into parts of instances: writes its labels, then the file with their sums and their graph.

    Raises:
        InputError: the volume is damaged, or holds no probabilities.
    """
    job, core = task.job, task.slices
    volume = volume_of(job)
    values = volume[core]

    def read_mask(outer: Box) -> np.ndarray:
        region = values if outer == core else volume[outer]
        if job.threshold is None:
            return region != 0
        check_range(region, volume.path, outer[0].start)
        return above(region, job.threshold)

    pieces = label_box(read_mask, core, job.shape, voxel_nm=job.voxel_nm, settings=job.rules)
    if len(pieces.basins.ids):
        with disk_errors(Path(job.folder)):
            labels_of(job)[core].write(pieces.labels).result()
    sums = morphometry.add_up(pieces.labels, values, core, job.shape)
    about = {"highest": values.max(), "nonzero": np.count_nonzero(values)}
    _save(job.box_file(task.i), **about, **sums._asdict(), **pieces.basins._asdict(), **pieces.passes._asdict())


def measure_task(task: BoxTask) -> None:
    """Measures the instances in one block, and writes their numbers, where the task has a target."""
    job, block = task.job, task.slices
    outer = boxes.grown(block, (morphometry.SURROUNDINGS,) * 3, job.shape)
    numbers = numbered(job, outer)
    if task.target is not None:
        inner = numbers[boxes.within(block, outer)]
        if inner.any():
            path, dtype = task.target
            with open_writer(path, job.shape, np.dtype(dtype), job.voxel_nm, keep=True).joined() as writer:
                writer.write_block(tuple(part.start for part in block), inner)
    table = _numbers(job)
    parts = morphometry.measure_box(
        numbers, block, outer, job.shape, voxel_nm=job.voxel_nm, axes=(table["centroids_nm"], table["axes"])
    )
    _save(job.block_file(task.i), **parts._asdict())


def numbered(job: Job, region: Box) -> np.ndarray:
    """Numbers of the instances in a region of the volume, `z y x`, once all boxes are stitched."""
    table = _numbers(job)
    local = labels_of(job)[region].read().result()
    numbers = np.zeros(local.shape, table["number"].dtype)
    for i, part in boxes.overlapping(region, job.shape, job.sides):
        start, stop = table["starts"][i : i + 2]
        if stop > start:
            here = boxes.within(part, region)
            numbers[here] = np.append(numbers.dtype.type(0), table["number"][start:stop])[local[here]]
    return numbers


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------


def read_box(job: Job, i: int) -> tuple[dict, Sums, Basins, Passes]:
    """What `label_task` wrote of box `i`: highest value and number of values above 0; sums; graph."""
    with np.load(job.box_file(i)) as file:
        return (
            {key: file[key][()] for key in ("highest", "nonzero")},
            *(kind(*(file[key] for key in kind._fields)) for kind in (Sums, Basins, Passes)),
        )


def read_block(job: Job, i: int) -> Parts:
    """What `measure_task` wrote of block `i`."""
    with np.load(job.block_file(i)) as file:
        return Parts(*(file[key] for key in Parts._fields))


def save_numbers(job: Job, **arrays: np.ndarray) -> None:
    """Writes what `measure_task` needs of the whole volume: number, starts, centroids_nm, axes."""
    _save(job.numbers_file, **arrays)
    _numbers.cache_clear()


def labels_of(job: Job):
    """The tensorstore array of the parts, `z y x` uint32; made where it does not exist."""
    chunk = tuple(CHUNK if side % CHUNK == 0 else side for side in job.sides)
    return open_scratch(Path(job.folder) / "labels", job.shape, np.uint32, chunk)


@functools.lru_cache(maxsize=1)
def volume_of(job: Job) -> Volume:
    return open_volume(job.volume, job.voxel_nm, verbose=False)


@functools.lru_cache(maxsize=1)
def _numbers(job: Job) -> dict[str, np.ndarray]:
    with np.load(job.numbers_file) as file:
        return dict(file)


def _save(path: Path, **arrays: np.ndarray) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())
