"""Segments a volume by tasks, each a box of its own: as `predict_volume` does, on as many machines as there are."""

import contextlib
import functools
import math
from pathlib import Path

from ml_collections import ConfigDict
from tqdm import tqdm

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference import full_size, z_smoothing
from dualrel_jax.inference import threshold as threshold_lib
from dualrel_jax.inference.box_progress import BoxProgress
from dualrel_jax.inference.box_tasks import PredictionJob, count_probabilities, predict_box
from dualrel_jax.inference.choice import Choice
from dualrel_jax.inference.predict_volume import (
    check_settings,
    grey_range,
    open_writers,
    predicted_before,
    publish,
    sole_writer,
    window_side,
    written_paths,
)
from dualrel_jax.inference.prediction_record import (
    FRACTION,
    THRESHOLD,
    describe_job,
    digest_of,
    mark_unmoved,
    write_beside,
)
from dualrel_jax.inference.region_predictor import RegionPredictor
from dualrel_jax.inference.resume import check_no_other, continue_or_clear, progress_path
from dualrel_jax.inference.run import Run
from dualrel_jax.inference.threshold import UNCALIBRATED
from dualrel_jax.inference.unsure_parts import NONE
from dualrel_jax.inference.volume_predictor import VolumePredictor
from dualrel_jax.inference.windows import TaskBox, parse_region, slabs
from dualrel_jax.inference.write_mask import write_mask
from dualrel_jax.utils.boxes import Box
from dualrel_jax.utils.tasks import Tasks


def predict_by_tasks(
    run: Run, choice: Choice, volume: Volume, output: Path, *, settings: ConfigDict, tasks: Tasks
) -> tuple[dict[str, Path], float]:
    """Writes what `predict_volume` writes, box by box, each by a worker that reads the volume and the run itself.

    The same call continues where an earlier one was stopped, or where boxes failed.

    Args:
        run: its folder, like `volume` and `output`, has the same path on every worker.
        choice: of the head and the threshold, made here once.
        volume: as `settings.input` opens it.
        output: a .zarr.
        settings: of `config.predict`.
        tasks: runs them.

    -> (name -> path, fraction of the segmented voxels that are mitochondrion).

    Raises:
        InputError: as `predict_volume`; or boxes that failed, after all others are done.
    """
    with sole_writer(output):
        return _predict(run, choice, volume, output, settings=settings, tasks=tasks)


def check_tasks(settings: ConfigDict, output: Path) -> None:
    """InputError for an input or an output that tasks cannot share."""
    if not settings.input:
        raise InputError("--cluster needs --config.predict.input=..., the path that every worker opens.")
    if output.suffix.lower() != ".zarr":
        raise InputError(
            f"config.predict.output is {output}, which one process writes; with --cluster name one that ends in .zarr."
        )


def _predict(
    run: Run, choice: Choice, volume: Volume, output: Path, *, settings: ConfigDict, tasks: Tasks
) -> tuple[dict[str, Path], float]:
    if settings.points:
        raise InputError(
            "--points goes without --cluster: predict a --region with the points on this machine first, and give the "
            "threshold that it prints by --threshold."
        )
    check_settings(volume, settings)
    shown = full_size.output_volume(volume, settings)
    region = parse_region(settings.region, shown.shape)
    writers = open_writers(shown, region, output, settings)
    chunk, grey = writers["mask"].chunk, grey_range(volume, settings.intensity_range)
    side = window_side(settings, chunk)
    model = VolumePredictor(choice.predictor, run.variables, grey, run.pixel_nm, settings.tile, settings.overlap, side)
    sigma = z_smoothing.smoothing_slices(volume, settings.z_smoothing_nm)
    own = RegionPredictor(model, volume, full_size.predicted_region(volume, region, settings), sigma, None)
    whole = full_size.for_outputs(own, region, settings)
    boxes = list_boxes(whole, box_slices(settings, chunk, side, sigma))
    shared = _job(run, choice, volume, output, settings=settings, model=model, region=region)
    record = describe_job(model, volume, shown, settings, output)
    check_no_other(progress_path(output, in_tasks=False), "without --cluster")
    if done := predicted_before(output, record, settings):
        return done
    parts = [writer.part for writer in writers.values()]
    progress = BoxProgress(progress_path(output, in_tasks=True), record, parts)
    continue_or_clear(progress.continued, output, parts)
    with contextlib.ExitStack() as stack:
        for writer in writers.values():
            stack.enter_context(writer)
        stack.callback(progress.close)
        remaining = [box for box in boxes if not progress.is_done(box)]
        progress.start(_slices(boxes), _slices(boxes) - _slices(remaining))
        if progress.threshold is None:
            progress.decide(_threshold(own, shared, settings, tasks))
        for box, _ in tasks(functools.partial(predict_box, shared), remaining):
            progress.finished(box)
        progress.close()
        threshold, margin = progress.threshold, settings.unsure_margin or NONE
        found = write_mask(*writers.values(), threshold, margin, shards=settings.shards, tasks=tasks)
        for writer in writers.values():
            writer.finish(tasks)
        publish(writers.values(), progress)
        paths = written_paths(output, settings)
        fraction = found / math.prod(writers["mask"].shape)
        about = record | {THRESHOLD: progress.threshold, FRACTION: fraction} | mark_unmoved(record, settings)
        paths |= write_beside(shown, region, grey, output, about)
    return paths, fraction


def box_slices(settings: ConfigDict, chunk: tuple[int, int, int], side: int, sigma: float) -> int:
    """Slices of a box, a multiple of what is written at once.

    `predict.task_slices`; with orthogonal planes as many as, with those that averaging needs, fill the window of a
    plane: else planes would be predicted several times.
    """
    depth = chunk[0]
    if settings.planes == "xyz" and side:
        return max((side - 2 * z_smoothing.reach(sigma)) // depth, 1) * depth
    return -(-settings.task_slices // depth) * depth


def list_boxes(whole: "RegionPredictor | full_size.FullSizeRegion", depth: int) -> list[TaskBox]:
    """The boxes of a region, at most `depth` slices of a window each."""
    return [TaskBox.of((z, *window.inner)) for window in whole.windows for z in slabs(whole.region[0], depth)]


def _slices(boxes: list[TaskBox]) -> int:
    return sum(box.z[1] - box.z[0] for box in boxes)


def _job(
    run: Run,
    choice: Choice,
    volume: Volume,
    output: Path,
    *,
    settings: ConfigDict,
    model: VolumePredictor,
    region: Box,
) -> PredictionJob:
    return PredictionJob(
        workdir=str(run.workdir.absolute()),
        config=run.config.to_json_best_effort(),
        prediction_head=choice.prediction_head,
        model=digest_of(run.variables),
        volume=volume.path if "://" in volume.path else str(Path(volume.path).expanduser().absolute()),
        voxel_nm=volume.voxel_nm,
        level=volume.level if full_size.is_enlarged(volume, settings) else None,
        region=TaskBox.of(region),
        grey=tuple(map(float, model.grey)),
        side=model.side,
        output=str(output.expanduser().absolute()),
    )


def _threshold(own: RegionPredictor, job: PredictionJob, settings: ConfigDict, tasks: Tasks) -> float:
    """That of the settings or, where the foreground fraction is known, the one that leads to it in a sample."""
    if not settings.foreground_fraction:
        return settings.threshold or UNCALIBRATED
    places = [TaskBox.of((slice(z, z + 1), *window.inner)) for window, z in own.sample_places()]
    counts = sum(counts for _, counts in tasks(functools.partial(count_probabilities, job), places))
    threshold = threshold_lib.of_counts(counts, settings.foreground_fraction)
    tqdm.write(threshold_lib.explain_fraction(threshold, settings.foreground_fraction))
    return threshold
