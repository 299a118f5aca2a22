"""Segments a volume window by window into a mask on disk, which a later call continues where this one was stopped."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from dualrel_jax.data.io.output_lock import output_writer
from dualrel_jax.data.io.outputs import check_beside, check_output
from dualrel_jax.data.io.points import read_points
from dualrel_jax.data.io.remote import absolute_path, beside, remove
from dualrel_jax.data.io.volume import Volume, intensity_range
from dualrel_jax.data.io.voxel import check_likely
from dualrel_jax.data.io.writers import VolumeWriter, check_outputs, open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.inference import full_size, orthogonal_planes, z_smoothing
from dualrel_jax.inference import threshold as threshold_lib
from dualrel_jax.inference.box_progress import BoxProgress
from dualrel_jax.inference.places import explain_other_places
from dualrel_jax.inference.point_threshold import threshold_of_points
from dualrel_jax.inference.prediction_record import (
    FRACTION,
    THRESHOLD,
    describe_job,
    is_unmoved,
    mark_unmoved,
    write_beside,
)
from dualrel_jax.inference.region_predictor import RegionPredictor
from dualrel_jax.inference.resume import PredictionProgress, check_no_other, continue_or_clear, progress_path
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.inference.threshold import UNCALIBRATED
from dualrel_jax.inference.unsure_parts import NONE
from dualrel_jax.inference.volume_predictor import VolumePredictor
from dualrel_jax.inference.windows import parse_region
from dualrel_jax.inference.write_mask import write_mask
from dualrel_jax.inference.write_region import write_region
from dualrel_jax.methods.base import Variables
from dualrel_jax.utils import interrupt
from dualrel_jax.utils.atomic import removed_when_stopped
from dualrel_jax.utils.boxes import Box


def predict_volume(
    predictor: Predictor, variables: Variables, volume: Volume, output: Path, settings: ConfigDict, *, pixel_nm
) -> tuple[dict[str, Path], float]:
    """Writes the mask (0 / 255), if asked for the probability (0..255), a picture of four slices, and the settings.

    What is written as .zarr is continued where an earlier call with the same volume, model and settings was killed.

    `settings` are `config.predict` with what `choice.choose` has chosen. Of what they leave open, the threshold is the
    one that `points` or `foreground_fraction` lead to or, without these, that of an uncalibrated model, the planes are
    xy, and masks keep all their parts.

    -> (name -> path, fraction of the segmented voxels that are mitochondrion).

    Raises:
        InputError: a bad region or setting, an earlier call that was another, or one that writes there now.
    """
    with sole_writer(output):
        return _predict_volume(predictor, variables, volume, output, settings, pixel_nm=pixel_nm)


def _predict_volume(
    predictor: Predictor, variables: Variables, volume: Volume, output: Path, settings: ConfigDict, *, pixel_nm
) -> tuple[dict[str, Path], float]:
    check_settings(volume, settings)
    sigma = z_smoothing.smoothing_slices(volume, settings.z_smoothing_nm)
    shown = full_size.output_volume(volume, settings)
    region = parse_region(settings.region, shown.shape)
    own_region = full_size.predicted_region(volume, region, settings)
    writers = open_writers(shown, region, output, settings)
    mask, probability = writers["mask"], writers["probability"]
    side = window_side(settings, mask.chunk) if mask.resumable else 0
    grey = grey_range(volume, settings.intensity_range)
    model = VolumePredictor(predictor, variables, grey, pixel_nm, settings.tile, settings.overlap, side)
    planes_path = beside(output).with_name(f"{output.name}.planes.part")
    parts = [writer.part for writer in writers.values()] + [planes_path] * (settings.planes == "xyz")
    job = describe_job(model, volume, shown, settings, output)
    if settings.points and (note := explain_other_places(Path(settings.points), job)):
        print(note)
    check_no_other(progress_path(output, in_tasks=True), "with --cluster")
    if done := predicted_before(output, job, settings):
        return done
    progress = PredictionProgress(progress_path(output, in_tasks=False) if mask.resumable else None, job, parts)
    continue_or_clear(progress.continued, output, parts)
    with contextlib.ExitStack() as stack:
        for writer in writers.values():
            stack.enter_context(writer)
        if not mask.resumable:
            stack.callback(remove, planes_path)
            stack.enter_context(removed_when_stopped(planes_path))
        planes = orthogonal_planes.open_planes(planes_path, own_region) if settings.planes == "xyz" else None
        own = RegionPredictor(model, volume, own_region, sigma, planes)
        task = full_size.for_outputs(own, region, settings)
        stack.callback(progress.close)
        progress.start(task.slice_count())
        if planes is not None:
            orthogonal_planes.predict_planes(model, volume, own_region, planes, progress)
        threshold = _threshold(own, settings)
        write_region(task, probability, progress, zs=region[0], whole=region)
        progress.close()
        probability.finish()
        found = write_mask(mask, probability, threshold, settings.unsure_margin or NONE, shards=settings.shards)
        mask.finish()  # before either has its name: a kill in the long part loses nothing
        publish(writers.values(), progress)
        paths = written_paths(output, settings)
        about = job | {THRESHOLD: threshold, FRACTION: (fraction := found / math.prod(mask.shape))}
        paths |= write_beside(shown, region, grey, output, about | mark_unmoved(job, settings))
    remove(planes_path)
    return paths, fraction


def predicted_before(output: Path, job: dict, settings: ConfigDict) -> tuple[dict[str, Path], float] | None:
    """The volumes that an earlier command of this job wrote, which ended before it had moved the edges of the mask.

    None where there are none, or where a later prediction there is unfinished. The fraction is not known: nan.
    """
    paths = written_paths(output, settings)
    whole = all(path.exists() for path in paths.values())
    unfinished = any(progress_path(output, in_tasks).exists() for in_tasks in (False, True))
    if not settings.edge_nm or not whole or unfinished or not is_unmoved(output, job):
        return None
    print(f"{output}: is predicted; its edges are still to be moved.")
    return paths, math.nan


def publish(writers: Iterable[VolumeWriter], progress: PredictionProgress | BoxProgress) -> None:
    """Gives finished outputs their names; what they replace is deleted as their contexts are left.

    No deletion lies between: it may take minutes, and a prediction of which one output has its name does not continue.
    """
    for writer in writers:
        writer.publish()
    progress.complete()
    interrupt.describe(
        "Stopped when the mask was complete, before its picture or while earlier files were deleted; the same command "
        "begins anew."
    )


def _threshold(task: RegionPredictor, settings: ConfigDict) -> float:
    """The threshold of the settings, or the one that a known fraction or classified points lead to."""
    if settings.points:
        points = read_points(settings.points, task.volume.shape).inside(task.region)
        chosen = threshold_of_points(*task.at(points.zyx), points)
        tqdm.write(f"{points.describe()}. {chosen.describe()}")
        return chosen.threshold
    if settings.foreground_fraction:
        threshold = threshold_lib.of_fraction(task.sample(), settings.foreground_fraction)
        tqdm.write(threshold_lib.explain_fraction(threshold, settings.foreground_fraction))
        return threshold
    return settings.threshold or UNCALIBRATED


def window_side(settings: ConfigDict, chunk: tuple[int, int, int]) -> int:
    """`predict.window_px` as a multiple of the blocks z y x that are written at once."""
    return -(-settings.window_px // max(chunk[1:])) * max(chunk[1:])


def check_settings(volume: Volume, settings: ConfigDict) -> None:
    """InputError for settings that this volume cannot be segmented with."""
    check_likely(volume.voxel_nm, volume.path, "predict.voxel_nm")
    if settings.planes == "xyz":
        orthogonal_planes.check_isotropic(volume)
    if settings.points and full_size.is_enlarged(volume, settings):
        raise InputError(
            f"config.predict.points count voxels of level {volume.level.index}, but with config.predict.full_size the "
            "mask has those of level 0; leave config.predict.level at auto, which reads level 0 for points."
        )
    if settings.points:
        read_points(settings.points, volume.shape).inside(parse_region(settings.region, volume.shape))


def output_paths(output: Path) -> dict[str, Path]:
    """Name -> path of each volume that is written, whether or not it is kept."""
    return {"mask": output, "probability": output.with_name(f"{output.stem}_probability{output.suffix}")}


def written_paths(output: Path, settings: ConfigDict) -> dict[str, Path]:
    """Name -> path of each volume that is there in the end."""
    return {name: path for name, path in output_paths(output).items() if name == "mask" or settings.probability}


def check_output_paths(output: Path, inputs: list[str], settings: ConfigDict, source: str = "") -> None:
    """InputError if one of the files cannot be written, or would replace one of `inputs`, or a mask of no `source`."""
    volumes = written_paths(output, settings).values()
    others = [beside(output).with_name(f"{output.stem}{suffix}") for suffix in (".png", ".json")]
    check_outputs([*volumes, *others], inputs, "config.predict.output")
    for path in volumes:
        check_output(path, "predict.output", "volume", source)
    check_beside(output, others, "predict.output")


@contextlib.contextmanager
def sole_writer(output: Path) -> Iterator[None]:
    """Holds all outputs; InputError if another command writes one of them."""
    with contextlib.ExitStack() as stack:
        for path in output_paths(output).values():
            stack.enter_context(output_writer(path, "--config.predict.output"))
        yield


def open_writers(volume: Volume, region: Box, output: Path, settings: ConfigDict) -> dict[str, VolumeWriter]:
    """Name -> writer of a region of `volume`, in its voxels; InputError for an output that cannot be written.

    That of the probability, of which the mask is made, discards it in the end unless it is asked for.
    """
    shape = tuple(part.stop - part.start for part in region)
    check_output_paths(output, [volume.path], settings, absolute_path(volume.path))
    kept = {"offset": tuple(part.start for part in region), "origin_nm": volume.origin_nm, "keep": True}
    kept["shards"] = settings.shards
    reductions = {"mask": "majority", "probability": "mean"}
    writers = {
        name: open_writer(path, shape, np.uint8, volume.voxel_nm, reduction=reductions[name], **kept)
        for name, path in output_paths(output).items()
    }
    if not settings.probability:
        writers["probability"].discard()
    return writers


def grey_range(volume: Volume, text: str) -> tuple[float, float]:
    """`predict.intensity_range` or, where it is empty, the range of a sample."""
    if text:
        low, high = map(float, text.split(","))
        return low, high
    low, high = intensity_range(volume)
    if not low < high:
        raise InputError(
            f"{volume.path}: the slices looked at hold hardly anything but {low:g}, so that the range of greys is "
            "unknown; set --config.predict.intensity_range=low,high, such as 0,255."
        )
    return low, high
