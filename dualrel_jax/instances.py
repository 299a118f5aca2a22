"""Numbers and measures every mitochondrion of a predicted volume: `dualrel --workdir RUN --mode=instances`."""

import importlib.util
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage
from tqdm import tqdm

from dualrel_jax import footprint, instance_measures, instance_metrics, pictures
from dualrel_jax.blocks import parse_region, spread
from dualrel_jax.data.own import parse_voxel
from dualrel_jax.data.readers.source import times
from dualrel_jax.data.volumes import Volume, intensity_range, open_volume, to_uint8
from dualrel_jax.data.writers import Voxel, open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.files import write_text

BYTES_PER_VOXEL = 12  # at the peak, measured on Lucchi; up to 56 where one connected network fills the volume
LABEL_KINDS = ("binary", "instances")
_NUMBERED = 25  # instances of a slice that bear their number in the picture


def write_instances(workdir: str | Path, config: ConfigDict) -> dict[str, Path]:
    """Turns a probability volume into numbered mitochondria; -> name -> path of what was written.

    `config.instances.input` becomes a label volume (1 is the largest instance), beside it `<stem>.csv` (see
    `instance_measures.measure`), `<stem>.json` (the settings, and the scores of `instance_metrics` if
    `config.instances.label` is given) and `<stem>.png`.

    Raises:
        InputError: a missing or unfit volume, no voxel size, too little memory, or an absent extra.
    """
    _require_extra()
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
    rows = instance_measures.measure(labels, probability, voxel_nm)
    about = {"input": probability.path, "voxel_nm": voxel_nm, "settings": settings.to_dict(), **summary(rows)}
    about["settings"]["threshold"] = threshold
    if truth is not None:
        confidence = np.array([row["mean_probability"] for row in rows])
        found = instance_metrics.overlaps(true_instances(truth, voxel_nm, settings), labels)
        about["scores"] = instance_metrics.compare(found, confidence)
    paths = {"instances": output} | {name: output.with_suffix(f".{name}") for name in ("csv", "json", "png")}
    with open_writer(output, labels.shape, labels.dtype, voxel_nm) as writer:
        for z, slice_yx in enumerate(labels):
            writer.write(z, slice_yx)
    instance_measures.write_csv(rows, paths["csv"])
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


def above(probability: Volume, threshold: float) -> np.ndarray:
    """`z y x` bool: probability above `threshold`. The values 0..255 or 0..1 (float) of the volume mean 0..1."""
    limit = threshold * instance_measures.full_scale(probability)
    mask = np.empty(probability.shape, bool)
    for row, slice_yx in zip(mask, probability, strict=True):
        np.greater(slice_yx, limit, out=row)
    return mask


def label_instances(mask: np.ndarray, voxel_nm: Voxel, settings: ConfigDict) -> np.ndarray:
    """Instances of a `z y x` bool mask: uint16 or, beyond 65535 of them, uint32; 1 is the largest, 0 background.

    Voxels are connected by their faces: noise that meets another mitochondrion at an edge or a corner joins nothing.

    Args:
        settings: `hole_um3`, `seed_depth_nm`, `min_um3`; see configs/base.py.
    """
    import cc3d

    voxel_um3 = math.prod(voxel_nm) / 1e9
    if settings.hole_um3 > 0:
        # Background all around: what is open to a face of the volume is no hole.
        pockets = np.pad(~mask, 1, constant_values=True)
        pockets = cc3d.dust(pockets, settings.hole_um3 / voxel_um3, connectivity=26, in_place=True)
        mask = ~pockets[1:-1, 1:-1, 1:-1]
    labels = cc3d.connected_components(mask, connectivity=6, out_dtype=np.uint32)
    if settings.seed_depth_nm > 0:
        split_touching(labels, voxel_nm, settings.seed_depth_nm)
    return number_by_size(labels, settings.min_um3 / voxel_um3)


def split_touching(labels: np.ndarray, voxel_nm: Voxel, depth_nm: float) -> None:
    """Gives each part of a `z y x` uint32 component (see `split`) but the first a new number, in place."""
    boxes = ndimage.find_objects(labels)
    top = len(boxes)
    for i, box in enumerate(tqdm(boxes, desc="split", unit="component", mininterval=2), start=1):
        # Background all around, except where the volume ends: what is cut there goes on.
        around = labels[tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)]
        parts = split(around == i, voxel_nm, depth_nm)
        new = parts > 1
        around[new] = parts[new] + (top - 1)
        top += max(int(parts.max()) - 1, 0)


def split(inside: np.ndarray, voxel_nm: Voxel, depth_nm: float) -> np.ndarray:
    """Parts 1, 2, ... of one component `z y x` bool, joined only by necks.

    The distance to the background, in nm, is flooded from its maxima (watershed); two basins are one part where the
    pass between them lies less than `depth_nm` below the lower maximum. The maxima that remain are those of the
    h-maxima transform (Soille, Morphological Image Analysis, 2003, chapter 6; skimage.morphology.h_maxima), which takes
    ten times longer.
    """
    import cc3d
    from skimage.morphology import local_maxima
    from skimage.segmentation import watershed

    distance_nm = ndimage.distance_transform_edt(inside, sampling=voxel_nm).astype(np.float32)
    if inside.all() or distance_nm.max() < depth_nm:
        return inside.astype(np.uint32)
    seeds = cc3d.connected_components(local_maxima(distance_nm, connectivity=1) & inside, connectivity=6)
    basins = watershed(-distance_nm, seeds, connectivity=1, mask=inside)
    return _join(basins, distance_nm, depth_nm)[basins]


def _join(basins: np.ndarray, distance_nm: np.ndarray, depth_nm: float) -> np.ndarray:
    """Basin -> part, both numbered from 1; 0 stays 0."""
    passes_nm, pairs = [], []
    for axis in range(3):
        here, there = ((slice(None),) * axis + (side,) for side in (slice(1, None), slice(None, -1)))
        touch = (basins[here] != basins[there]) & (basins[here] > 0) & (basins[there] > 0)
        passes_nm.append(np.minimum(distance_nm[here], distance_nm[there])[touch])
        pairs.append(np.stack([basins[here][touch], basins[there][touch]], axis=1))
    passes_nm, pairs = np.concatenate(passes_nm), np.sort(np.concatenate(pairs), axis=1)
    order = np.argsort(-passes_nm, kind="stable")
    _, highest = np.unique(pairs[order], axis=0, return_index=True)
    n = int(basins.max())
    peaks_nm = np.append(0, ndimage.maximum(distance_nm, basins, np.arange(1, n + 1)))
    root = np.arange(n + 1)
    for at in order[np.sort(highest)]:
        low, high = sorted((_find(root, i) for i in pairs[at]), key=lambda i: peaks_nm[i])
        if peaks_nm[low] - passes_nm[at] < depth_nm:
            root[low] = high
    return np.unique([_find(root, i) for i in range(n + 1)], return_inverse=True)[1].astype(np.uint32)


def _find(root: np.ndarray, i: int) -> int:
    while root[i] != i:
        i = root[i]
    return i


def number_by_size(labels: np.ndarray, smallest_voxels: float) -> np.ndarray:
    """Labels `z y x` numbered anew from the largest, 1, to the smallest; those below `smallest_voxels` become 0."""
    import cc3d

    voxels = cc3d.statistics(labels)["voxel_counts"].astype(np.int64)
    voxels[0] = 0
    order = np.argsort(-voxels, kind="stable")
    kept = order[(voxels[order] > 0) & (voxels[order] >= smallest_voxels)]
    number = np.zeros(len(voxels), np.uint16 if len(kept) < 2**16 else np.uint32)
    number[kept] = np.arange(1, len(kept) + 1)
    numbered = np.empty(labels.shape, number.dtype)
    for row, slice_yx in zip(numbered, labels, strict=True):
        row[...] = number[slice_yx]
    return numbered


def true_instances(label: Volume, voxel_nm: Voxel, settings: ConfigDict) -> Iterable[np.ndarray]:
    """Slices of the true instances: the numbers in `label`, or those found in a binary one as in a prediction.

    Components alone would not do: in the labels of the VNC stack 13 mitochondria touch and make 6 components.
    """
    if settings.label_kind == "instances":
        return label
    return label_instances(np.stack([slice_yx > 0 for slice_yx in label]), voxel_nm, settings)


def colours(n: int) -> np.ndarray:
    """`n + 1 rgb` in 0..1 for the labels 0..n, always the same ones; neighbours in number differ most in hue."""
    from matplotlib.colors import hsv_to_rgb

    i = np.arange(n + 1)
    # Multiples of the golden ratio spread evenly however many are drawn.
    return hsv_to_rgb(np.stack([i * 0.618034 % 1, 1 - 0.2 * (i % 3), 1 - 0.15 * (i % 2)], axis=1))


def draw(labels: np.ndarray, image: Volume, path: Path, voxel_nm: Voxel) -> Path:
    """Four slices of `image` under the instances, each in its own colour, the largest with their numbers."""
    from matplotlib.patheffects import withStroke

    zs = spread(range(len(labels)), 4)
    size = pictures.fit((labels.shape[1] * voxel_nm[1], labels.shape[2] * voxel_nm[2]), (620, 520))
    columns, step = min(len(zs), 2), (size[0] + pictures.GAP, size[1] + pictures.CAPTION + pictures.GAP)
    figure = pictures.new_figure(columns * step[0] + pictures.GAP, math.ceil(len(zs) / 2) * step[1] + pictures.GAP)
    rgb, grey = colours(int(labels.max())), intensity_range(image)
    outline = [withStroke(linewidth=1.5, foreground="black")]
    text = {"color": "white", "fontsize": 7, "ha": "center", "va": "center", "path_effects": outline}
    for at, z in enumerate(zs):
        corner = pictures.GAP + at % 2 * step[0], pictures.CAPTION + at // 2 * step[1]
        found = np.unique(labels[z][labels[z] > 0])
        axes = pictures.panel(figure, corner, size, f"z = {z}, {len(found)} instances")
        pictures.grey(axes, to_uint8(image[z], grey))
        overlay = np.concatenate([rgb[labels[z]], 0.5 * (labels[z] > 0)[..., None]], axis=-1)
        axes.imshow(overlay, aspect="auto", interpolation="nearest")
        for i in found[:_NUMBERED]:  # ascending ids are descending volumes
            y, x = np.nonzero(labels[z] == i)
            middle = np.argmin(np.hypot(y - y.mean(), x - x.mean()))  # in it even where it is bent
            axes.text(x[middle], y[middle], str(i), **text)
        pictures.scale_bar(axes, labels.shape[1:], voxel_nm[2])
    return pictures.save(figure, path)


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
        ap = {iou: scores[f"iou_{iou:g}"]["average_precision"] for iou in instance_metrics.AP_IOUS}
        if None not in (*ap.values(), scores["panoptic_quality"]):
            words += "".join(f" AP at IoU {iou:g}: {value:.3f}." for iou, value in ap.items())
            words += f" Panoptic quality {scores['panoptic_quality']:.3f}."
        words += f" {scores['true_instances']} true instances, {scores['splits']} splits, {scores['merges']} merges."
    return words


def _require_extra() -> None:
    missing = [name for name in ("cc3d", "skimage") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"--mode=instances needs {' and '.join(missing)}, which is not installed; run "
            'pip install -e ".[instances]".'
        )


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
    have, need = footprint.machine_bytes(), math.prod(volume.shape) * BYTES_PER_VOXEL
    if have is not None and need > have:
        raise InputError(
            f"{volume.path} takes {need / 2**30:.0f} GiB of memory ({BYTES_PER_VOXEL} bytes a voxel), but this machine "
            f"has {have / 2**30:.0f} GiB; cut the volume into blocks, or use a machine with more memory."
        )


def _open_like(probability: Volume, path: str, key: str) -> Volume:
    volume = open_volume(path, probability.voxel_nm)
    if volume.shape != probability.shape:
        raise InputError(
            f"{key}={path} has {times(volume.shape)} voxels (z y x), but {probability.path} has "
            f"{times(probability.shape)}; expected the same."
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
