"""Numbers and measures the instances of a volume box by box; memory is that of a few boxes and of the table."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dualrel_jax.data.io.writers import VolumeWriter
from dualrel_jax.errors import InputError
from dualrel_jax.instances import box_tasks, morphometry
from dualrel_jax.instances.box_tasks import BoxTask, Job
from dualrel_jax.instances.morphometry import Sums
from dualrel_jax.instances.segment import HALO_NM, check_scale, necks_of, numbers_by_size, voxel_um3
from dualrel_jax.instances.stitch import stitch
from dualrel_jax.utils import boxes, interrupt
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json
from dualrel_jax.utils.tasks import Tasks, in_this_process

BYTES_PER_VOXEL = 40  # of a window, at the peak
_SLAB = 32  # slices of a TIFF that are put together at a time


def choose_sides(job: Job, box_px: int, budget_bytes: float | None) -> tuple[int, int, int]:
    """Sides `z y x` of a box: `box_px`, or as much as fits into the budget; None: the whole volume."""
    side = box_px
    if not side:
        if budget_bytes is None or math.prod(job.shape) * BYTES_PER_VOXEL <= budget_bytes:
            return job.shape
        side = box_tasks.CHUNK
        while _window_bytes(side + box_tasks.CHUNK, job) <= budget_bytes:
            side += box_tasks.CHUNK
    return tuple(min(side, length) for length in job.shape)


def _window_bytes(side: int, job: Job) -> float:
    """Memory to label a box of this side with its surroundings."""
    lengths = [side + 2 * HALO_NM / nm for nm in job.voxel_nm]
    return BYTES_PER_VOXEL * math.prod(min(pair) for pair in zip(lengths, job.shape, strict=True))


def begin(job: Job, facts: dict) -> Job:
    """Makes the folder of a job, or continues that of an earlier call; -> the job with the boxes of that call.

    Args:
        facts: plain values, which tell this volume and this output from others of that name.

    Raises:
        InputError: the folder holds another job, of which boxes are finished.
    """
    record = Path(job.folder) / "job.json"
    now = json.loads(json.dumps(dataclasses.asdict(job) | facts))
    if record.exists():
        earlier = read_json(record, {"sides": list}, f"remove {job.folder} to start again")
        changed = [key for key in now if key not in ("folder", "sides", "command") and earlier.get(key) != now[key]]
        if not changed:
            return dataclasses.replace(job, sides=tuple(earlier["sides"]))
        if any((Path(job.folder) / "boxes").glob("*.npz")):
            key = changed[0]
            raise InputError(
                f"{job.folder} belongs to unfinished instances with another {key} ({earlier.get(key)} there, "
                f"{now[key]} now); repeat that command to continue it, or remove that folder to start again."
            )
    shutil.rmtree(job.folder, ignore_errors=True)
    Path(job.folder).mkdir(parents=True)
    write_text(record, json.dumps(now))
    return job


def number_instances(job: Job, tasks: Tasks = in_this_process, name: str = "number") -> Sums:
    """Labels all boxes, stitches them, and writes the number of each part; -> sums of the instances 1, 2, ...

    Args:
        tasks: how tasks are done; see `utils.tasks`.
        name: of the progress bar.

    Raises:
        InputError: the volume is damaged, or holds no probabilities.
    """
    box_tasks.labels_of(job)
    todo = [task for task in box_tasks.tasks_of(job, job.sides) if not job.box_file(task.i).exists()]
    _work(box_tasks.label_task, todo, tasks, name=name, of=len(job.grid()))
    about, sums, basins, passes = zip(*(box_tasks.read_box(job, i) for i in range(len(job.grid()))), strict=True)
    if job.threshold is not None:
        highest, nonzero = max(float(a["highest"]) for a in about), sum(int(a["nonzero"]) for a in about)
        dtype = about[0]["highest"].dtype
        try:
            check_scale(dtype, highest, nonzero, math.prod(job.shape), job.volume)
        except InputError:
            shutil.rmtree(job.folder, ignore_errors=True)  # nothing of it can be continued
            raise
    groups = stitch(list(basins), list(passes), necks_of(job.rules))
    every = Sums(*(np.concatenate(columns) for columns in zip(*sums, strict=True)))
    group = np.concatenate(groups)
    whole = morphometry.merge(every, group)
    kept = whole.voxels >= job.min_um3 / voxel_um3(job.voxel_nm)
    if job.threshold is not None:
        small, large = np.count_nonzero(~kept), np.count_nonzero(kept)
        kept &= whole.probability >= job.min_probability * morphometry.full_scale(dtype) * whole.voxels
        print(
            f"Left out: {small} parts smaller than {job.min_um3:g} um3 (min_um3) and {large - np.count_nonzero(kept)} "
            f"of which the network is not sure (mean probability below {job.min_probability:g}, min_probability)."
        )
    number = numbers_by_size(whole.voxels, whole.first, kept)
    order = np.argsort(number, kind="stable")[np.count_nonzero(number == 0) :]
    whole = Sums(*(column[order] for column in whole))
    centroids_nm, axes = morphometry.axes_nm(whole, job.voxel_nm)
    starts = np.cumsum([0, *(len(part.ids) for part in basins)])
    box_tasks.save_numbers(job, number=number[group], starts=starts, centroids_nm=centroids_nm, axes=axes)
    return whole


def write_and_measure(job: Job, sums: Sums, writer: VolumeWriter, tasks: Tasks = in_this_process) -> list[dict]:
    """Writes the numbers of the instances, and measures them; -> rows of `morphometry.table`.

    Args:
        sums: from `number_instances`.
        writer: an open one of the volume's shape; one that is resumable is written to by the tasks, block by block.
        tasks: how tasks are done; see `utils.tasks`.
    """
    chunk = writer.chunk if writer.resumable else (1, 1, 1)
    sides = tuple(-(-side // n) * n for side, n in zip(job.sides, chunk, strict=True))
    target = (str(writer.path), str(writer.dtype)) if writer.resumable else None
    every = box_tasks.tasks_of(job, sides, target)
    todo = [task for task in every if not job.block_file(task.i).exists()]
    _work(box_tasks.measure_task, todo, tasks, name="measure", of=len(every))
    if not writer.resumable:
        for z in range(0, job.shape[0], _SLAB):
            region = (slice(z, min(z + _SLAB, job.shape[0])), slice(0, job.shape[1]), slice(0, job.shape[2]))
            interrupt.check()
            writer.write_block((z, 0, 0), box_tasks.numbered(job, region))
    full = morphometry.full_scale(box_tasks.volume_of(job).dtype)
    parts = [box_tasks.read_block(job, task.i) for task in every]
    return morphometry.table(sums, parts, job.shape, job.voxel_nm, full)


def blocks(job: Job) -> Iterator[tuple[boxes.Box, np.ndarray]]:
    """Each box of the job and the numbers of the instances in it, `z y x`."""
    for box in job.grid():
        yield box, box_tasks.numbered(job, box)


def _work(function: Callable[[BoxTask], None], todo: list[BoxTask], tasks: Tasks, *, name: str, of: int) -> None:
    with tqdm(total=of, initial=of - len(todo), desc=name, unit="box", mininterval=2) as bar:
        interrupt.describe(f"Stopped at box {bar.n} of {of}; the same command continues.")
        for _ in tasks(function, todo):
            bar.update()
            interrupt.describe(f"Stopped at box {bar.n} of {of}; the same command continues.")
            interrupt.check()
