"""Segments a volume with a trained model, block by block, into a mask on disk."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from dualrel_jax import config as config_lib
from dualrel_jax.data.checks.volume import check_prediction_input
from dualrel_jax.data.datasets.own import parse_voxel, split_paths
from dualrel_jax.data.io.outputs import check_output
from dualrel_jax.data.io.volume import Volume, intensity_range, open_volume, to_uint8
from dualrel_jax.data.io.voxel import check_likely
from dualrel_jax.data.io.writers import VolumeWriter, check_outputs, open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.inference import threshold as threshold_lib
from dualrel_jax.inference import z_smoothing
from dualrel_jax.inference.choice import choose
from dualrel_jax.inference.resume import Progress
from dualrel_jax.inference.run import Run, load_run
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.inference.threshold import SAMPLE, UNCALIBRATED
from dualrel_jax.inference.volume_predictor import Model, Section
from dualrel_jax.inference.windows import Region, Window, parse_region, relative, slabs
from dualrel_jax.methods.base import Variables
from dualrel_jax.utils import lock
from dualrel_jax.utils.atomic import remove, removed_when_stopped, write_text
from dualrel_jax.utils.jsonl import without_nan
from dualrel_jax.utils.ranges import central_window, evenly_spaced
from dualrel_jax.visualization import overlays

_FREE = ("input", "output", "voxel_nm", "batch")  # fields that another may continue with, or that the volume holds
THRESHOLD = "config.predict.threshold"  # in the record beside a mask
_SHOWN = 2048  # side of the picture's part of a slice, pixels


def predict(workdir: str | Path, config: ConfigDict | None = None) -> dict[str, Path]:
    """Segments `config.predict.input` (or the run's test volume) with the model in `workdir`.

    Args:
        workdir: folder of a finished run.
        config: that of the run (default), or a copy with other fields of `predict`.

    Returns:
        Name to path of the files written: `mask`, `picture` and, unless left out, `probability`.

    Raises:
        InputError: there is no run, or the volume or a field cannot be used, or another command writes the output.
    """
    config = config if config is not None else config_lib.load(Path(workdir) / "config.json")
    output = Path(config.predict.output or Path(workdir) / "prediction" / "mask.tif")
    trained_on = (config.data[key] for key in ("image", "label", "unlabelled", "test_image", "test_label"))
    inputs = [config.predict.input, *(path for paths in trained_on for path in split_paths(paths))]
    _check_outputs(output, inputs, config.predict)
    with _sole_writer(output, config.predict):
        return _predict(load_run(workdir, config), output)


def _predict(run: Run, output: Path) -> dict[str, Path]:
    settings = run.config.predict.copy_and_resolve_references()
    if settings.input:
        volume = open_volume(settings.input, parse_voxel(settings.voxel_nm, "predict.voxel_nm"))
    else:
        volume = _test_volume(run)
    trained = _in_training(run, volume.path)
    if trained and not settings.voxel_nm:
        volume = dataclasses.replace(volume, voxel_nm=trained.voxel_nm)
        print(f"{volume.describe()}, as in the training")
    if volume.voxel_nm is None and run.pixel_nm is not None:
        print(
            f"{volume.path} does not say its voxel size: its pixels are taken to be those of the training, "
            f"{run.pixel_nm[0]:g} x {run.pixel_nm[1]:g} nm; --config.predict.voxel_nm=z,y,x sets them."
        )
    _check(volume, settings)
    _writers(volume, parse_region(settings.region, volume.shape), output, settings)  # refuses what cannot be written
    for finding in check_prediction_input(volume):
        print(finding)
    choice = choose(run, [volume])
    settings.prediction_head, settings.threshold = choice.prediction_head, choice.threshold
    print(choice.explanation)
    paths, share = predict_volume(choice.predictor, run.variables, volume, run.pixel_nm, output, settings)
    where = f"the region {settings.region}" if settings.region else f"the {len(volume)} slices"
    print(f"Mitochondria fill {100 * share:.1f} % of {where} of {volume.path}.")
    for name, path in paths.items():
        print(f"  {name}: {path}")
    return paths


def _test_volume(run: Run) -> Volume:
    try:
        return run.test_parts()[0].image
    except InputError as error:
        raise InputError(f"{error} Or name what to segment with --config.predict.input=...") from None


def _in_training(run: Run, path: str) -> Volume | None:
    """This very file as the data set of the training has it, with the voxel size it had there; None if it has not."""
    data, same = run.config.data, lambda other: Path(other).resolve() == Path(path).resolve()
    named = (name for key in ("image", "unlabelled", "test_image") for name in split_paths(data[key]))
    if data.name == "own" and not any(map(same, named)):
        return None  # its labels, which may be many, need not be read
    with contextlib.suppress(InputError), contextlib.redirect_stdout(io.StringIO()):
        for part in (*run.dataset.train, *run.dataset.validation, *run.dataset.test):
            if same(part.image.path):
                return part.image
    return None


def predict_volume(
    predictor: Predictor, variables: Variables, volume: Volume, pixel_nm, output: Path, settings: ConfigDict
) -> tuple[dict[str, Path], float]:
    """Writes the mask (0 / 255), if asked for the probability (0..255), a picture of four slices, and the settings.

    What is written as .zarr is continued where an earlier call with the same volume, model and settings was killed.

    A threshold of 0 is that at which a sample is covered by `settings.foreground_fraction` or, without that, of an
    uncalibrated model.

    -> (name -> path, share of the segmented voxels that are mitochondrion).

    Raises:
        InputError: a bad region or setting, an earlier call that was another, or one that writes there now.
    """
    with _sole_writer(output, settings):
        return _predict_volume(predictor, variables, volume, pixel_nm, output, settings)


def _predict_volume(
    predictor: Predictor, variables: Variables, volume: Volume, pixel_nm, output: Path, settings: ConfigDict
) -> tuple[dict[str, Path], float]:
    _check(volume, settings)
    sigma = z_smoothing.smoothing_slices(volume, settings.z_smoothing_nm)
    region = parse_region(settings.region, volume.shape)
    writers = _writers(volume, region, output, settings)
    first = writers["mask"]
    side = -(-settings.window_px // first.chunk[1]) * first.chunk[1] if first.resumable else 0
    grey = _grey_range(volume, settings.intensity_range)
    model = Model(predictor, variables, grey, pixel_nm, settings.tile, settings.overlap, side)
    views_path = output.with_name(f"{output.name}.views.part")
    parts = [writer.part for writer in writers.values()] + [views_path] * (settings.orthogonal_planes)
    job = _job(model, volume, settings)
    progress = Progress(_progress_path(output) if first.resumable else None, job, parts)
    if progress.continued:
        print(f"{output}: continues where it was stopped.")
    else:
        for part in parts:
            remove(part)
    with contextlib.ExitStack() as stack:
        for writer in writers.values():
            stack.enter_context(writer)
        if not first.resumable:
            stack.callback(remove, views_path)
            stack.enter_context(removed_when_stopped(views_path))
        views = z_smoothing.open_views(views_path, region) if settings.orthogonal_planes else None
        task = _Task(model, volume, region, sigma, views)
        stack.callback(progress.close)
        progress.start(task.section_count())
        if views is not None:
            z_smoothing.predict_views(model, volume, region, views, progress)
        threshold = settings.threshold or UNCALIBRATED
        if settings.foreground_fraction:
            threshold = threshold_lib.of_share(task.sample(), settings.foreground_fraction)
            tqdm.write(
                f"The threshold is {threshold:.2f}: there {settings.foreground_fraction:.1%} of a sample is "
                "mitochondrion."
            )
        _write(task, threshold, writers, progress)
        for writer in writers.values():  # before either has its name: a kill in the long part loses nothing
            writer.finish()
    remove(views_path)
    progress.complete()
    paths = {name: writer.path for name, writer in writers.items()}
    paths["picture"] = _picture(volume, region, grey, output)
    paths["about"] = output.with_name(f"{output.stem}.json")
    job[THRESHOLD] = threshold
    write_text(paths["about"], json.dumps(without_nan(job), indent=2) + "\n")
    return paths, progress.found / np.prod(first.shape)


def _check(volume: Volume, settings: ConfigDict) -> None:
    check_likely(volume.voxel_nm, volume.path, "predict.voxel_nm")
    if settings.orthogonal_planes:
        z_smoothing.check_isotropic(volume)
    if settings.window_px < 0:
        raise InputError(f"config.predict.window_px is {settings.window_px}; expected pixels, or 0 for whole slices.")


def _outputs(output: Path, settings: ConfigDict) -> dict[str, Path]:
    """Name -> path of each volume that is written."""
    paths = {"mask": output}
    if settings.probability:
        paths["probability"] = output.with_name(f"{output.stem}_probability{output.suffix}")
    return paths


def _check_outputs(output: Path, inputs: list[str], settings: ConfigDict) -> None:
    """InputError if one of the files cannot be written, or would replace one of `inputs`."""
    volumes = _outputs(output, settings).values()
    for path in volumes:
        check_output(path, "predict.output", THRESHOLD)
    beside = [output.with_name(f"{output.stem}{suffix}") for suffix in (".png", ".json")]
    check_outputs([*volumes, *beside], inputs, "config.predict.output")


@contextlib.contextmanager
def _sole_writer(output: Path, settings: ConfigDict) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for path in _outputs(output, settings).values():
            stack.enter_context(lock.output_writer(path, "--config.predict.output"))
        yield


def _writers(volume: Volume, region: Region, output: Path, settings: ConfigDict) -> dict[str, VolumeWriter]:
    shape = tuple(part.stop - part.start for part in region)
    _check_outputs(output, [volume.path], settings)
    kept = {"offset": tuple(part.start for part in region), "keep": True}
    reductions = {"mask": "majority", "probability": "mean"}
    return {
        name: open_writer(path, shape, np.uint8, volume.voxel_nm, reduction=reductions[name], **kept)
        for name, path in _outputs(output, settings).items()
    }


@dataclasses.dataclass(frozen=True)
class _Task:
    """The probabilities of a region, averaged as the settings ask; `views` as in `consensus.open_views`, or None."""

    model: Model
    volume: Volume
    region: Region
    sigma: float
    views: np.ndarray | None

    @functools.cached_property
    def windows(self) -> list[Window]:
        return list(self.model.windows(self.volume, self.region[1:]))

    def section_count(self) -> int:
        z = self.region[0]
        others = 0 if self.views is None else z_smoothing.section_count(self.model, self.volume, self.region)
        return others + len(self.windows) * (z.stop - z.start)

    def sample(self) -> Iterator[np.ndarray]:
        """Sections of windows spread over the region."""
        start = self.region[0].start
        for at in evenly_spaced(range(len(self.windows) * (self.region[0].stop - start)), SAMPLE):
            z, i = divmod(at, len(self.windows))
            for section in self.sections(self.windows[i], range(start + z, start + z + 1)):
                y, x = self.windows[i].inner
                yield np.zeros((y.stop - y.start, x.stop - x.start)) if section is None else section

    def sections(self, window: Window, zs: range) -> Iterator[Section]:
        """Of the window's inner part, at each of `zs`."""
        # The other views are known in the region only.
        within = slice(0, len(self.volume)) if self.views is None else self.region[0]
        reach = z_smoothing.reach(self.sigma)
        given = range(max(zs.start - reach, within.start), min(zs.stop + reach, within.stop))
        seen = self.volume.crop(slice(given.start, given.stop), *window.outer)
        sections = (None if section is None else section[window.kept] for section in self.model.sections(seen))
        if self.views is not None:
            views = self.views[:, *relative((given, *window.inner), self.region)]
            sections = z_smoothing.averaged(sections, views)
        return z_smoothing.smoothed(sections, given, zs, self.sigma) if self.sigma else sections


def _write(task: _Task, threshold: float, writers: dict[str, VolumeWriter], progress: Progress) -> None:
    """Window by window, and in each from the first slice to the last."""
    z = task.region[0]
    for window in task.windows:
        layers = progress.remaining(slabs(z, writers["mask"].chunk[0]))
        if not layers:
            continue
        sections = task.sections(window, range(layers[0].start, z.stop))
        for layer in layers:
            blocks = _block(sections, layer, window, threshold, progress)
            corner = tuple(part.start for part in relative((layer, *window.inner), task.region))
            for name, writer in writers.items():
                writer.write_block(corner, blocks[name])
            progress.finished(np.count_nonzero(blocks["mask"]))


def _block(
    sections: Iterator[Section], layer: slice, window: Window, threshold: float, progress: Progress
) -> dict[str, np.ndarray]:
    """The next sections as mask (0 / 255) and probability (0..255), uint8 z y x."""
    shape = (layer.stop - layer.start, *(part.stop - part.start for part in window.inner))
    blocks = {name: np.zeros(shape, np.uint8) for name in ("mask", "probability")}
    for z in range(len(blocks["mask"])):
        section = next(sections)
        if section is not None:
            blocks["mask"][z] = np.where(section > threshold, 255, 0)
            blocks["probability"][z] = np.rint(section * 255)
        progress.step()
    return blocks


def _grey_range(volume: Volume, text: str) -> tuple[float, float]:
    """`predict.intensity_range` or, where it is empty, the range of a sample."""
    if not text:
        low, high = intensity_range(volume)
        if not low < high:
            raise InputError(
                f"{volume.path}: the slices looked at hold hardly anything but {low:g}, so that the range of greys is "
                "unknown; set --config.predict.intensity_range=low,high, such as 0,255."
            )
        return low, high
    try:
        low, high = (float(value) for value in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not -np.inf < low < high < np.inf:
        raise InputError(
            f"config.predict.intensity_range is {text!r}; expected two intensities, the lower first, such as 0,255."
        )
    return low, high


def _progress_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.progress.json")


def _job(model: Model, volume: Volume, settings: ConfigDict) -> dict:
    """What the output depends on, name -> value: for `Progress`, and as a record beside the output."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(model.variables):
        digest.update(np.asarray(leaf).tobytes())
    sample = volume[len(volume) // 2, :_SHOWN, :_SHOWN]
    return {
        "volume": str(Path(volume.path).resolve()),
        "shape (z y x)": list(volume.shape),
        "voxel size": volume.voxel_nm and list(volume.voxel_nm),
        "content": [*model.grey, zlib.crc32(sample.tobytes())],
        "model": digest.hexdigest()[:16],
        "training pixel size": model.pixel_nm and list(model.pixel_nm),
        **{f"config.predict.{key}": value for key, value in settings.to_dict().items() if key not in _FREE},
    }


def _picture(volume: Volume, region: Region, grey: tuple[float, float], output: Path) -> Path:
    """Four slices of the region, of large ones the middle, with the outlines of the mask."""
    mask = open_volume(output, verbose=False)
    z, y, x = region
    shown = central_window(mask.shape[1:], _SHOWN)
    seen = [slice(part.start + m.start, part.start + m.stop) for part, m in zip((y, x), shown, strict=True)]
    panels = [
        (to_uint8(volume[z.start + at, *seen], grey), mask[at, *shown] > 0, None, f"z = {z.start + at}")
        for at in evenly_spaced(range(len(mask)), 4)
    ]
    return overlays.mask_sheet(panels, output.with_name(f"{output.stem}.png"))
