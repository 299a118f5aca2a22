"""Numbers and measures every mitochondrion of a predicted volume: `dualrel --workdir RUN --mode=instances`."""

import json
import math
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.datasets.own import parse_voxel
from dualrel_jax.data.io.volume import Volume, intensity_range, open_volume, to_uint8
from dualrel_jax.data.io.voxel import Voxel, check_likely
from dualrel_jax.data.io.writers import check_outputs, open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.inference.windows import parse_region
from dualrel_jax.instances import morphometry
from dualrel_jax.instances.segment import above, label_instances, true_instances
from dualrel_jax.metrics import instances
from dualrel_jax.training import memory
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.utils.text import format_shape
from dualrel_jax.visualization import overlays

BYTES_PER_VOXEL = 12  # at the peak, measured on Lucchi; up to 56 where one connected network fills the volume
LABEL_KINDS = ("binary", "instances")
_NUMBERED = 25  # instances of a slice that bear their number in the picture


def segment_instances(workdir: str | Path, config: ConfigDict) -> dict[str, Path]:
    """Turns a probability volume into numbered mitochondria; -> name -> path of what was written.

    `config.instances.input` becomes a label volume (1 is the largest instance), beside it `<stem>.csv` (see
    `instance_measures.measure`), `<stem>.json` (the settings, and the scores of `instance_metrics` if
    `config.instances.label` is given) and `<stem>.png`.

    Raises:
        InputError: a missing or unfit volume, no voxel size or too little memory.
    """
    workdir, settings = Path(workdir), config.instances
    probability = _open_probability(workdir, config)
    voxel_nm, output = probability.voxel_nm, Path(settings.output or workdir / "instances" / "instances.tif")
    _check_memory(probability)
    _check_output(output, probability.path, settings.image, settings.label)
    if settings.image:
        image = _open_like(probability, settings.image, "instances.image")
    else:
        image = probability if settings.input else _segmented(workdir, probability)
    truth = _open_truth(probability, settings) if settings.label else None
    threshold = settings.threshold or _threshold_of_mask(Path(probability.path))
    labels = label_instances(above(probability, threshold), voxel_nm, settings)
    rows = morphometry.measure(labels, probability, voxel_nm)
    about = {"input": probability.path, "voxel_nm": voxel_nm, "settings": settings.to_dict(), **summary(rows)}
    about["settings"]["threshold"] = threshold
    if truth is not None:
        confidence = np.array([row["mean_probability"] for row in rows])
        found = instances.overlaps(true_instances(truth, voxel_nm, settings), labels)
        about["scores"] = instances.compare(found, confidence)
    paths = {"instances": output} | {name: output.with_suffix(f".{name}") for name in ("csv", "json", "png")}
    with open_writer(output, labels.shape, labels.dtype, voxel_nm) as writer:
        for z, slice_yx in enumerate(labels):
            writer.write(z, slice_yx)
    morphometry.write_csv(rows, paths["csv"])
    write_text(paths["json"], json.dumps(about, indent=2, allow_nan=False) + "\n")
    draw(labels, image, paths["png"], voxel_nm)
    print(in_words(about))
    for name, path in paths.items():
        print(f"  {name}: {path}")
    return paths


def _threshold_of_mask(probability: Path) -> float:
    """That which `--mode=predict` noted beside this probability, mask.json; 0.5 where it did not."""
    about = probability.with_name(f"{probability.stem.removesuffix('_probability')}.json")
    return json.loads(about.read_text()).get("config.predict.threshold", 0.5) if about.is_file() else 0.5


def colours(n: int) -> np.ndarray:
    """`n + 1 rgb` in 0..1 for the labels 0..n, always the same ones; neighbours in number differ most in hue."""
    from matplotlib.colors import hsv_to_rgb

    i = np.arange(n + 1)
    # Multiples of the golden ratio spread evenly however many are drawn.
    return hsv_to_rgb(np.stack([i * 0.618034 % 1, 1 - 0.2 * (i % 3), 1 - 0.15 * (i % 2)], axis=1))


def draw(labels: np.ndarray, image: Volume, path: Path, voxel_nm: Voxel) -> Path:
    """Four slices of `image` under the instances, each in its own colour, the largest with their numbers."""
    from matplotlib.patheffects import withStroke

    zs = evenly_spaced(range(len(labels)), 4)
    size = overlays.fit((labels.shape[1] * voxel_nm[1], labels.shape[2] * voxel_nm[2]), (620, 520))
    columns, step = min(len(zs), 2), (size[0] + overlays.GAP, size[1] + overlays.CAPTION + overlays.GAP)
    figure = overlays.new_figure(columns * step[0] + overlays.GAP, math.ceil(len(zs) / 2) * step[1] + overlays.GAP)
    rgb, grey = colours(int(labels.max())), intensity_range(image)
    outline = [withStroke(linewidth=1.5, foreground="black")]
    text = {"color": "white", "fontsize": 7, "ha": "center", "va": "center", "path_effects": outline}
    for at, z in enumerate(zs):
        corner = overlays.GAP + at % 2 * step[0], overlays.CAPTION + at // 2 * step[1]
        found = np.unique(labels[z][labels[z] > 0])
        axes = overlays.panel(figure, corner, size, f"z = {z}, {len(found)} instances")
        overlays.grey(axes, to_uint8(image[z], grey))
        overlay = np.concatenate([rgb[labels[z]], 0.5 * (labels[z] > 0)[..., None]], axis=-1)
        axes.imshow(overlay, aspect="auto", interpolation="nearest")
        for i in found[:_NUMBERED]:  # ascending ids are descending volumes
            y, x = np.nonzero(labels[z] == i)
            middle = np.argmin(np.hypot(y - y.mean(), x - x.mean()))  # in it even where it is bent
            axes.text(x[middle], y[middle], str(i), **text)
        overlays.scale_bar(axes, labels.shape[1:], voxel_nm[2])
    return overlays.save(figure, path)


def summary(rows: list[dict]) -> dict:
    """Numbers of all instances together; volumes are None without any."""
    volumes = [row["volume_um3"] for row in rows]
    return {
        "instances": len(rows),
        "cut_by_border": sum(row["touches_border"] for row in rows),
        "total_um3": sum(volumes) if rows else None,
        "median_um3": float(np.median(volumes)) if rows else None,
    }


def in_words(about: dict) -> str:
    """What a person wants to know first."""
    if not about["instances"]:
        return f"{about['input']}: no instance; lower --config.instances.threshold or --config.instances.min_um3."
    words = f"{about['input']}: {about['instances']} instances, {about['cut_by_border']} of them cut by the border; "
    words += f"volume in total {about['total_um3']:.4g} um3, median {about['median_um3']:.3g} um3."
    if "scores" in about:
        scores = about["scores"]
        ap = {iou: scores[f"iou_{iou:g}"]["average_precision"] for iou in instances.AP_IOUS}
        if None not in (*ap.values(), scores["panoptic_quality"]):
            words += "".join(f" AP at IoU {iou:g}: {value:.3f}." for iou, value in ap.items())
            words += f" Panoptic quality {scores['panoptic_quality']:.3f}."
        words += f" {scores['true_instances']} true instances, {scores['splits']} splits, {scores['merges']} merges."
    return words


def _predicted(workdir: Path) -> Path:
    """The probability that --mode=predict wrote last."""
    paths = [workdir / "prediction" / f"mask_probability{suffix}" for suffix in (".tif", ".zarr")]
    return max((path for path in paths if path.exists()), key=lambda path: path.stat().st_mtime, default=paths[0])


def _open_probability(workdir: Path, config: ConfigDict) -> Volume:
    path = config.instances.input or _predicted(workdir)
    if not config.instances.input and not path.exists():
        raise InputError(
            f"{path} does not exist; segment a volume first with --mode=predict, or name a probability volume with "
            "--config.instances.input=..."
        )
    volume = open_volume(path, parse_voxel(config.predict.voxel_nm, "predict.voxel_nm"))
    if volume.dtype != np.uint8 and volume.dtype.kind not in "fb":
        raise InputError(
            f"{volume.path} holds values of type {volume.dtype}; expected probabilities as uint8 (0 to 255) or as real "
            "numbers (0 to 1): give the file that ends in _probability."
        )
    if volume.voxel_nm is None or math.isnan(volume.voxel_nm[0]):
        raise InputError(
            f"{volume.path} does not say its voxel size, which volumes and lengths need; set "
            "--config.predict.voxel_nm=z,y,x in nm, such as 30,8,8."
        )
    check_likely(volume.voxel_nm, volume.path, "predict.voxel_nm")
    return volume


def _segmented(workdir: Path, probability: Volume) -> Volume:
    """The EM that --mode=predict segmented last, or the probability where that is not to be had any more."""
    try:
        about = json.loads((workdir / "prediction" / "mask.json").read_text())
        volume = open_volume(about["volume"], verbose=False)
        image = volume.crop(*parse_region(about["config.predict.region"], volume.shape))
    except (OSError, InputError):
        return probability
    return image if image.shape == probability.shape else probability


def _check_memory(volume: Volume) -> None:
    """InputError where the volume does not fit; an unknown size of memory counts as enough."""
    have, need = memory.machine_bytes(), math.prod(volume.shape) * BYTES_PER_VOXEL
    if have is not None and need > have:
        raise InputError(
            f"{volume.path} takes {need / 2**30:.0f} GiB of memory ({BYTES_PER_VOXEL} bytes a voxel), but this machine "
            f"has {have / 2**30:.0f} GiB; cut the volume into blocks, or use a machine with more memory."
        )


def _open_like(probability: Volume, path: str, key: str) -> Volume:
    volume = open_volume(path, probability.voxel_nm)
    if volume.shape != probability.shape:
        raise InputError(
            f"{key}={path} has {format_shape(volume.shape)} voxels (z y x), but {probability.path} has "
            f"{format_shape(probability.shape)}; expected the same."
        )
    return volume


def _open_truth(probability: Volume, settings: ConfigDict) -> Volume:
    if settings.label_kind not in LABEL_KINDS:
        raise InputError(f"instances.label_kind={settings.label_kind}; expected one of {', '.join(LABEL_KINDS)}.")
    label = _open_like(probability, settings.label, "instances.label")
    if settings.label_kind == "instances" and label.dtype.kind not in "iu":
        raise InputError(f"{label.path} holds values of type {label.dtype}; expected whole numbers: one an instance.")
    return label


def _check_output(output: Path, *inputs: str) -> None:
    """InputError for a name that cannot be written or is that of an input, before minutes of work."""
    open_writer(output, (1, 1, 1), np.uint16)
    if output.exists() and any(output.resolve() == Path(path).resolve() for path in inputs if path):
        raise InputError(f"config.instances.output is {output}, one of the inputs; choose another name.")
    beside = [output.with_suffix(suffix) for suffix in (".csv", ".json", ".png")]
    check_outputs([output, *beside], inputs, "config.instances.output")
