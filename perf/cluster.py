"""Tasks on a cluster: what the scheduler costs, what tasks read, what memory they take, how long terabytes would."""

import contextlib
import functools
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil

from dualrel_jax.data.io import ome_zarr
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.inference import box_tasks, predict_by_tasks, z_smoothing
from dualrel_jax.inference.cluster import open_cluster
from dualrel_jax.inference.predict_volume import open_writers, window_side
from dualrel_jax.inference.tiling import Tiles
from dualrel_jax.inference.unsure_parts import measure_parts
from dualrel_jax.inference.volume_predictor import VolumePredictor
from dualrel_jax.inference.windows import TaskBox, parse_region
from dualrel_jax.inference.write_mask import measure_block
from dualrel_jax.utils.tasks import in_this_process
from perf import workload
from perf.processes import peak_mib, run_python
from perf.report import Table, command

TASKS, LIMIT_S = 100_000, 180.0  # of the scheduler; it ends at whichever comes first
NOMINAL_GB = (1, 10, 100)
H100_MPIXEL_S = 84.9  # results/performance.md, size base
VOXEL_NM = (8.0, 8.0, 8.0)


def main(quick: bool = False) -> Iterator[Table]:
    yield scheduler(quick)
    yield efficiency(quick)
    yield reading(quick)
    yield memory(quick)
    yield terabytes()


# ---------------------------------------------------------------------------------------------------------------------
# The scheduler
# ---------------------------------------------------------------------------------------------------------------------


def nothing(task: int) -> int:
    return task


def sleep(seconds: float, task: int) -> int:
    time.sleep(seconds)
    return task


def scheduler(quick: bool) -> Table:
    rows = []
    for workers in (1, 2):
        with open_cluster(f"local:{workers}") as tasks:
            list(tasks(nothing, range(10)))
            start, before = time.perf_counter(), cpu_seconds()
            limit = start + (3 if quick else LIMIT_S)
            coming = (task for task in range(TASKS) if time.perf_counter() < limit)
            done = sum(1 for _ in tasks(nothing, coming))
            wall = time.perf_counter() - start
            client, worker = (1000 * (now - then) / done for now, then in zip(cpu_seconds(), before, strict=True))
            rows.append([workers, done, done / wall, client, worker, 1000 / client, TASKS * client / 3.6e6])
    note = (
        f"Tasks that do nothing, at most {TASKS:,} or {LIMIT_S:g} s; with the encryption of local clusters. CPU ms per "
        "task of the process of client and scheduler, and of all workers together. The last two columns are what the "
        "former allows on a core of its own: calculated, not measured."
    )
    columns = ["workers", "tasks", "tasks/s", "client, ms", "workers, ms", "tasks/s, one core", f"hours for {TASKS:,}"]
    return Table("Empty tasks", columns, rows, note)


def cpu_seconds() -> tuple[float, float]:
    """(CPU seconds of this process, those of all below it) so far."""
    me = psutil.Process()
    return tuple(
        sum(sum(process.cpu_times()[:2]) for process in group) for group in ([me], me.children(recursive=True))
    )


def efficiency(quick: bool) -> Table:
    """Of workers that wait for a device: what the cluster itself takes."""
    rows = []
    for workers in (1, 2):
        with open_cluster(f"local:{workers}") as tasks:
            list(tasks(nothing, range(10)))
            for seconds in (0.1,) if quick else (0.1, 1.0, 5.0):
                count = workers * (5 if quick else max(round(20 / seconds), 4))
                start = time.perf_counter()
                list(tasks(functools.partial(sleep, seconds), range(count)))
                rows.append([workers, seconds, count * seconds / workers / (time.perf_counter() - start)])
    note = "Tasks that sleep, as a worker that waits for its device: their time over that of the whole."
    return Table("Efficiency of workers", ["workers", "s a task", "efficiency"], rows, note)


# ---------------------------------------------------------------------------------------------------------------------
# What a task reads, and memory; with a stand-in for the network
# ---------------------------------------------------------------------------------------------------------------------


class Bright:
    """A network that takes no time: what is bright."""

    in_flight = slices_at_once = 1

    def __call__(self, variables, images):
        return images / np.float32(255)


def prepare(folder: Path, volume: Volume, **changed):
    """Run, choice, settings of a prediction, by the stand-in in the tasks too."""
    config = workload.create_config("test")
    with config.unlocked():
        config.predict.update({"intensity_range": "0,255", "threshold": 0.5, "input": volume.path, **changed})
    settings = config.predict
    model = VolumePredictor(
        Bright(), 0.0, (0.0, 255.0), None, settings.tile, settings.overlap, window_side(settings, ome_zarr.CHUNK)
    )
    box_tasks._open = lambda job: (model, volume, settings)
    run = SimpleNamespace(workdir=folder, config=config, variables=0.0, pixel_nm=None)
    return run, SimpleNamespace(predictor=Bright(), prediction_head="head"), settings


def reading(quick: bool) -> Table:
    """Bytes that reach the process from the store, of noise, which no compression makes smaller."""
    side, depth = (256, 64) if quick else (1024, 256)
    shape, rng, rows = (depth, side, side), np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "em.zarr"
        with open_writer(path, shape, np.uint8, VOXEL_NM, reduction="stride") as writer:
            for z in range(depth):
                writer.write(z, rng.integers(0, 255, (side, side), np.uint8))
        for level, slices, smoothing_nm in (
            (0, 128, 0.0),
            (0, 32, 20.0),
            (0, 128, 20.0),
            (1, 128, 20.0),
            (2, 128, 20.0),
        ):
            array = path / str(level)
            if quick and not array.exists():
                continue
            settings = {"task_slices": slices, "z_smoothing_nm": smoothing_nm, "window_px": side // 2}
            code = f"from perf.cluster import read_file; read_file({str(array)!r}, {level}, {settings!r})"
            voxels, read = map(float, run_python(code).output.split()[-2:])
            rows.append([level, slices, smoothing_nm, read / voxels, read / math.prod(shape)])
    note = (
        f"{depth} slices of {side} x {side} voxels of 8 nm in chunks of 32 x 256 x 256, windows of {side // 2}, "
        "borders of 64. Whole chunks are read. A window holds whole slices of levels 1 and 2."
    )
    columns = ["level", "slices a task", "z_smoothing_nm", "bytes per voxel predicted", "bytes per voxel of level 0"]
    return Table("What tasks read", columns, rows, note)


def read_file(path: str, level: int, changed: dict) -> None:
    """Predicts a level by tasks in this process; prints its voxels and the bytes read."""
    voxel_nm = tuple(size * 2**level for size in VOXEL_NM)
    volume = open_volume(path, voxel_nm, verbose=False)
    with tempfile.TemporaryDirectory() as name:
        run, choice, settings = prepare(Path(name), volume, overlap=64, tile=256, probability=False, **changed)
        model = box_tasks._open(None)[0]
        # As on workers of their own: no task finds what another one read.
        box_tasks._open = lambda job: (model, open_volume(path, voxel_nm, verbose=False), settings)
        job = describe(run, choice, volume, Path(name) / "mask.zarr", settings)
        writer = open_writers(volume, job.region.slices, Path(job.output), settings)["probability"]
        with writer:
            before = bytes_read()
            for box in boxes_of(job, settings):
                box_tasks.predict_box(job, box)
            print(math.prod(volume.shape), bytes_read() - before)


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def describe(run, choice, volume: Volume, output: Path, settings) -> box_tasks.PredictionJob:
    region = TaskBox.of(parse_region("", volume.shape))
    side = window_side(settings, ome_zarr.CHUNK)
    return box_tasks.PredictionJob(
        workdir="", config=json.dumps({}), prediction_head="", model="", volume=volume.path, voxel_nm=volume.voxel_nm,
        level=None, region=region, grey=(0.0, 255.0), side=side, output=str(output),
    )  # fmt: skip


def boxes_of(job: box_tasks.PredictionJob, settings) -> list[TaskBox]:
    model, volume, _ = box_tasks._open(job)
    whole = SimpleNamespace(windows=list(model.windows(volume, job.region.slices[1:])), region=job.region.slices)
    sigma = z_smoothing.smoothing_slices(volume, settings.z_smoothing_nm)
    return predict_by_tasks.list_boxes(whole, predict_by_tasks.box_slices(settings, ome_zarr.CHUNK, job.side, sigma))


def memory(quick: bool) -> Table:
    rows = []
    for gigabytes in NOMINAL_GB[:2] if quick else (*NOMINAL_GB, 1_000):
        with tempfile.TemporaryDirectory() as name:
            shape = tuple(int(round((gigabytes * 1e9 / 0.5) ** (1 / 3) * part)) for part in (0.5, 1, 1))
            peaks = []
            for part in ("client", "worker"):
                code = f"from perf.cluster import measure_{part}; measure_{part}({name!r}, {shape!r})"
                ended = run_python(code, {"JAX_PLATFORMS": "cpu"})
                before, boxes = map(float, ended.output.split()[-2:])
                peaks.append(ended.peak_mib - before)
            rows.append([f"{gigabytes:,}", " x ".join(map(str, shape)), int(boxes), *peaks])
    note = (
        "Above what the start took. The client hands every box out and records it, nothing is computed. The worker "
        "predicts the first box, one in the middle and the last, by a stand-in for the network. Only 64 slices of "
        "the first window were ever written."
    )
    return Table("Peak memory by volume", ["GB", "voxels", "boxes", "client MiB", "worker MiB"], rows, note)


def _sparse(folder: Path, shape) -> Volume:
    """A volume of which only the first 64 slices of the first window were ever written."""
    path = folder / "em.zarr"
    store = ome_zarr.open_level(path, 0, shape, np.dtype(np.uint8))
    side = min(2048, *shape[1:])
    noise = np.random.default_rng(0).integers(1, 255, ome_zarr.CHUNK, np.uint8)
    for z, y, x in itertools.product((0, 32), range(0, side, 256), range(0, side, 256)):
        block = store[z : z + 32, y : min(y + 256, side), x : min(x + 256, side)]
        block.write(noise[: block.shape[0], : block.shape[1], : block.shape[2]]).result()
    return open_volume(path / "0", VOXEL_NM, verbose=False)


def measure_client(folder: str, shape) -> None:
    volume = _sparse(Path(folder), shape)
    run, choice, settings = prepare(Path(folder), volume, window_px=2048, tile=1024, overlap=64)
    before, count = peak_mib(), 0

    def uncomputed(function, tasks):
        nonlocal count
        nothing = measure_parts(np.zeros((1, 1, 1), np.uint8), 0.5, (slice(0, 1),) * 3, (1, 1, 1))
        for task in tasks:
            count += isinstance(task, TaskBox)
            yield task, nothing if getattr(function, "func", None) is measure_block else 0

    with contextlib.redirect_stderr(open(os.devnull, "w")), contextlib.redirect_stdout(sys.stderr):
        predict_by_tasks.predict_by_tasks(
            run, choice, volume, Path(folder) / "mask.zarr", settings=settings, tasks=uncomputed
        )
    print(before, count)


def measure_worker(folder: str, shape) -> None:
    volume = _sparse(Path(folder), shape)
    run, choice, settings = prepare(Path(folder), volume, window_px=2048, tile=1024, overlap=64)
    job = describe(run, choice, volume, Path(folder) / "boxes.zarr", settings)
    boxes = boxes_of(job, settings)
    before = peak_mib()
    with contextlib.ExitStack() as stack:
        for writer in open_writers(volume, job.region.slices, Path(job.output), settings).values():
            stack.enter_context(writer)
        chosen = [boxes[0], boxes[len(boxes) // 2], boxes[-1]]
        for _ in in_this_process(functools.partial(box_tasks.predict_box, job), chosen):
            pass
        print(before, len(boxes))
        stack.pop_all()


# ---------------------------------------------------------------------------------------------------------------------
# On paper
# ---------------------------------------------------------------------------------------------------------------------


def terabytes() -> Table:
    """From the rate of one H100, the pixels that windows, tiles and averaging compute twice, and the store."""
    settings = workload.create_config("test").predict
    side, overlap, tile, slices = 2048, 64, 1024, settings.task_slices
    outer = side + 2 * overlap
    tiles = Tiles((outer, outer), tile, overlap, 16)
    reach = z_smoothing.reach(settings.z_smoothing_nm / VOXEL_NM[0])
    in_z = 1 + 2 * reach / slices
    pixels = len(tiles) * math.prod(tiles.tile_yx) / side**2 * in_z
    chunk_z, chunk, _ = ome_zarr.CHUNK  # of the input too; borders take whole chunks
    read = (1 + 2 * chunk * -(-overlap // chunk) / side) ** 2 * (1 + 2 * chunk_z * -(-reach // chunk_z) / slices)
    rate = H100_MPIXEL_S / pixels  # Mvoxel/s
    rows = []
    for terabyte, gpus in ((1, 1), (1, 8), (100, 8), (100, 64), (100, 256)):
        hours = terabyte * 1e6 / (rate * gpus) / 3600
        needed = rate * gpus * read / 1000
        rows.append([f"{terabyte} TB", gpus, hours, needed, max(hours, terabyte * 1000 * read / 3600)])
    note = (
        f"1 byte per voxel, voxels of 8 nm, default settings, chunks as ours: {pixels:.2f} pixels are predicted and "
        f"{read:.2f} bytes read per voxel, so that an H100 of {H100_MPIXEL_S} Mpixel/s does {rate:.1f} Mvoxel/s. "
        "Calculated, not measured."
    )
    columns = ["volume", "H100", "hours", "GB/s the store must give", "hours from a store of 1 GB/s"]
    return Table("Terabytes", columns, rows, note)


if __name__ == "__main__":
    sys.exit(command(main))
