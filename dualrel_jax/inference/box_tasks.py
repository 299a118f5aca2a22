"""What a worker does for a prediction by tasks: it predicts one box of a volume and writes it."""

import contextlib
import dataclasses
import functools
import json
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.io.pyramid import Level
from dualrel_jax.data.io.remote import as_place
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.errors import InputError
from dualrel_jax.inference import full_size, orthogonal_planes, z_smoothing
from dualrel_jax.inference.predict_volume import open_writers
from dualrel_jax.inference.prediction_record import digest_of
from dualrel_jax.inference.region_predictor import RegionPredictor
from dualrel_jax.inference.resume import PredictionProgress
from dualrel_jax.inference.run import load_run
from dualrel_jax.inference.volume_predictor import VolumePredictor
from dualrel_jax.inference.windows import TaskBox
from dualrel_jax.inference.write_region import write_region
from dualrel_jax.metrics.segmentation import probability_histogram
from dualrel_jax.utils.boxes import Box


@dataclass(frozen=True)
class PredictionJob:
    """What all tasks of a prediction share, as plain values.

    Attributes:
        workdir: folder of the run, which every worker reads.
        config: of the run, with the settings of `predict`, as JSON.
        prediction_head: as `choice.choose` gives it.
        model: `digest_of` the weights.
        volume: path of the input.
        voxel_nm: of the input.
        level: that the input is of a pyramid, where the outputs have the voxels of level 0; else None.
        region: the part that is segmented, in voxels of the outputs.
        grey: the intensity range that becomes 0..255.
        side: of the windows, in pixels of the volume.
        output: path of the mask.
        command: drawn anew by each, so that a worker that outlives one opens no file of another again.
    """

    workdir: str
    config: str
    prediction_head: str
    model: str
    volume: str
    voxel_nm: Voxel | None
    level: Level | None
    region: TaskBox
    grey: tuple[float, float]
    side: int
    output: str
    command: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)


def predict_box(job: PredictionJob, box: TaskBox) -> None:
    """Writes the probabilities of a box.

    Raises:
        InputError: the run has another model by now, or something cannot be read or written.
    """
    model, volume, settings = _open(job)
    own, whole = (full_size.predicted_region(volume, part.slices, settings) for part in (box, job.region))
    with contextlib.ExitStack() as stack:
        predictor = stack.enter_context(_region_predictor(model, volume, settings, own, whole))
        task = full_size.for_outputs(predictor, box.slices, settings)
        writer = open_writers(volume, job.region.slices, as_place(job.output), settings)["probability"]
        stack.enter_context(writer.joined())
        write_region(task, writer, PredictionProgress(None, {}), zs=box.slices[0], whole=job.region.slices)


def count_probabilities(job: PredictionJob, box: TaskBox) -> np.ndarray:
    """The pixels of one slice of a window by probability, as `probability_histogram` counts them.

    Args:
        box: in voxels of the input.
    """
    model, volume, settings = _open(job)
    whole = full_size.predicted_region(volume, job.region.slices, settings)
    with _region_predictor(model, volume, settings, box.slices, whole) as task:
        window, z = task.windows[0], box.slices[0].start
        return sum(map(probability_histogram, task.sample([(window, z)])))


@functools.lru_cache(maxsize=1)
def _open(job: PredictionJob) -> tuple[VolumePredictor, Volume, ConfigDict]:
    """The model and the volume of a job: once a process."""
    config = ConfigDict(json.loads(job.config))
    config.train.devices = 0  # those of this worker
    run = load_run(job.workdir, config)
    if (model := digest_of(run.variables)) != job.model:
        raise InputError(
            f"{job.workdir} holds another model ({model}) than at the start ({job.model}); wait until its training has "
            "ended, or use the folder that all machines see."
        )
    settings = run.config.predict.copy_and_resolve_references()
    predictor = run.predictor_of(job.prediction_head)
    grey = tuple(job.grey)
    opened = VolumePredictor(predictor, run.variables, grey, run.pixel_nm, settings.tile, settings.overlap, job.side)
    volume = dataclasses.replace(open_volume(job.volume, verbose=False), voxel_nm=job.voxel_nm, level=job.level)
    return opened, volume, settings


@contextlib.contextmanager
def _region_predictor(
    model: VolumePredictor, volume: Volume, settings: ConfigDict, box: Box, whole: Box
) -> Iterator[RegionPredictor]:
    """For a part of the input; with orthogonal planes also for the slices of `whole` that averaging along z needs."""
    sigma = z_smoothing.smoothing_slices(volume, settings.z_smoothing_nm)
    if settings.planes != "xyz":
        yield RegionPredictor(model, volume, box, sigma, None)
        return
    z, *yx = box
    reach, limits = z_smoothing.reach(sigma), whole[0]
    region = (slice(max(z.start - reach, limits.start), min(z.stop + reach, limits.stop)), *yx)
    with tempfile.TemporaryDirectory(prefix="dualrel-planes-") as folder:
        planes = orthogonal_planes.open_planes(Path(folder) / "planes", region)
        orthogonal_planes.predict_planes(model, volume, region, planes, PredictionProgress(None, {}))
        yield RegionPredictor(model, volume, region, sigma, planes)
