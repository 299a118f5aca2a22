"""Numbers and measures every mitochondrion of a predicted volume: `dualrel instances RUN`."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.checks.volume import check_probability
from dualrel_jax.data.datasets.own import named_files, parse_voxel
from dualrel_jax.data.io.fingerprint import fingerprint
from dualrel_jax.data.io.output_lock import check_finished, output_writer
from dualrel_jax.data.io.outputs import check_beside, check_output
from dualrel_jax.data.io.remote import RemotePath, absolute_path, as_place, beside, is_remote
from dualrel_jax.data.io.remote import remove as remove_place
from dualrel_jax.data.io.volume import Volume, intensity_range, open_volume, split_inner, to_uint8
from dualrel_jax.data.io.voxel import Voxel, check_likely
from dualrel_jax.data.io.writers import check_outputs, open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.inference.cluster import check_cluster, open_cluster
from dualrel_jax.inference.places import last_prediction
from dualrel_jax.inference.prediction_record import THRESHOLD
from dualrel_jax.inference.windows import parse_region
from dualrel_jax.instances import morphometry
from dualrel_jax.instances.box_tasks import Job, numbered
from dualrel_jax.instances.segment_volume import begin, blocks, choose_sides, number_instances, write_and_measure
from dualrel_jax.instances.truth import check_whole, open_like, open_truth
from dualrel_jax.metrics import instances
from dualrel_jax.training import memory
from dualrel_jax.utils.atomic import remove, write_text
from dualrel_jax.utils.jsonl import read_json
from dualrel_jax.utils.ranges import central_window, evenly_spaced
from dualrel_jax.utils.tasks import Tasks, in_this_process
from dualrel_jax.utils.text import format_shape, quoted
from dualrel_jax.visualization import overlays

MEMORY_FRACTION = 0.4  # of this machine's memory that a box takes
BOX_PX = 384  # on a cluster, unless it is set: 5 GB of memory a worker where voxels are 8 nm
SHOWN = 2048  # side of the picture's part of a slice, pixels


def segment_instances(
    workdir: str | Path, config: ConfigDict | None = None, tasks: Tasks = in_this_process, cluster: str = ""
) -> dict[str, Path]:
    """Turns a probability volume into numbered and measured mitochondria, box by box where it does not fit in memory.

    Writes the label volume `config.instances.output` (1 is the largest instance) and beside it `<stem>.csv` (the
    measures of `morphometry.measure`), `<stem>.json` (settings, totals and, with `config.instances.label`, the scores
    of `metrics.instances.compare`) and `<stem>.png`. What a kill left in `<output>.boxes.part` is continued.

    Args:
        workdir: folder of a run whose prediction is there.
        config: that of the run (default), or a copy with other fields of `instances`.
        tasks: how the boxes are worked through; see `utils.tasks`.
        cluster: in place of `tasks`, where they run, as `inference.cluster.open_cluster` takes it.

    Returns:
        Name to path of the files written.

    Raises:
        InputError: a volume is missing or does not fit, or its voxel size is unknown.
    """
    check_cluster(cluster)
    workdir = Path(workdir)
    config = config_lib.load(workdir / "config.json") if config is None else config
    if cluster:
        workdir, config = _for_workers(workdir, config)
    output = as_place(config.instances.output or workdir / "instances" / "instances.tif")
    if isinstance(output, RemotePath):  # the tables and what is not finished stay on this machine
        output = output.with_side(workdir / "instances")
    with output_writer(output, "--config.instances.output"):
        if not cluster:
            return _segment_instances(workdir, config, output, tasks)
        with open_cluster(cluster) as tasks:
            return _segment_instances(workdir, config, output, tasks)


def _for_workers(workdir: Path, config: ConfigDict) -> tuple[Path, ConfigDict]:
    """Folder and config whose paths hold on every worker, in boxes that fit into the memory of most."""
    config = config.copy_and_resolve_references()
    for key in ("input", "output", "label"):
        if (path := config.instances[key]) and "://" not in path:
            config.instances[key] = str(Path(path).expanduser().absolute())
    config.instances.box_px = config.instances.box_px or BOX_PX
    return workdir.expanduser().absolute(), config


def _segment_instances(workdir: Path, config: ConfigDict, output: Path, tasks: Tasks) -> dict[str, Path]:
    settings = config.instances
    probability = _open_probability(workdir, config)
    findings = list(check_probability(probability)) if settings.input else []
    print(*findings, sep="\n", end="\n" * bool(findings))
    source = absolute_path(probability.path)
    check_output(output, "instances.output", "input", source)
    _check_output(output, probability.path, settings.image, settings.label, *named_files(config.get("data", {})))
    truth = open_truth(probability, settings) if settings.label else None
    path = _record_of(workdir, probability.path)
    record = read_json(path, {}, "remove it") if path.is_file() else {}
    image = _open_image(record, probability, settings)
    threshold = settings.threshold or _threshold_of_mask(record, path, probability.path)
    if truth is not None and (note := check_whole(truth, probability, threshold)):
        print(note)
    folder = beside(output).with_name(f"{output.name}.boxes.part")
    stored = {"output": str(output)} if isinstance(output, RemotePath) else {}
    made_from = {f"{key} of the prediction": record.get(key) for key in ("model", "content")}
    job = _begin(probability, settings, threshold, folder, stored | made_from)
    sums = number_instances(job, tasks)
    dtype = np.uint16 if len(sums.voxels) < 2**16 else np.uint32
    writer = open_writer(output, job.shape, dtype, job.voxel_nm, keep=True)
    if not any((folder / "blocks").glob("*")):
        remove_place(writer.part)  # of an earlier command, whose numbers would stay where there are none now
    if not writer.part.exists():  # what earlier blocks were written to is gone, or complete
        remove(folder / "blocks")
    with writer:
        rows = write_and_measure(job, sums, writer, tasks)
        writer.finish(tasks)
    result = {
        "input": source,
        **stored,
        "voxel_nm": probability.voxel_nm,
        "settings": settings.to_dict() | {"threshold": threshold},
        **total_volumes(rows),
    }
    if truth is not None:
        result["scores"] = _scores(job, truth, rows, settings, tasks)
    paths = {"instances": output} | {name: beside(output).with_suffix(f".{name}") for name in ("csv", "json", "png")}
    morphometry.write_csv(rows, paths["csv"])
    write_text(paths["json"], json.dumps(result, indent=2, allow_nan=False) + "\n")
    draw_instances(open_volume(output, verbose=False), image, job.voxel_nm, paths["png"])
    remove(folder)
    print(*findings, describe_instances(result), sep="\n")  # again: the first time is far above
    for name, path in paths.items():
        print(f"  {name}: {path}")
    return paths


def _begin(volume: Volume, settings: ConfigDict, threshold: float | None, folder: Path, facts: dict) -> Job:
    """The job that labels `volume`, its values above `threshold`, or what an earlier call of the same `facts` left."""
    rules = {key: settings[key] for key in ("hole_um3", "neck_depth_nm", "neck_ratio", "min_um3", "min_probability")}
    job = Job(str(folder), volume.path, volume.shape, volume.voxel_nm, threshold=threshold, **rules, sides=volume.shape)
    memory_bytes = memory.available_bytes()
    sides = choose_sides(job, settings.box_px, memory_bytes and memory_bytes * MEMORY_FRACTION)
    job = begin(dataclasses.replace(job, sides=sides), facts | {"content": fingerprint(volume)})
    if math.prod(job.sides) < math.prod(job.shape):
        print(f"{volume.path}: in {len(job.grid())} boxes of {format_shape(job.sides)} voxels (z y x).")
    return job


def _scores(job: Job, truth: Volume, rows: list[dict], settings: ConfigDict, tasks: Tasks) -> dict:
    """Scores of the instances against `truth`: its numbers, or a mask divided by the same rules."""
    if settings.label_kind == "instances":
        true_blocks = (truth[box] for box, _ in blocks(job))
    else:
        true_job = _begin(truth, settings, None, Path(job.folder) / "truth", {})
        number_instances(true_job, tasks, name="truth")
        true_blocks = (numbered(true_job, box) for box, _ in blocks(job))
    pairs = instances.overlaps(true_blocks, (numbers for _, numbers in blocks(job)))
    return instances.compare(pairs, np.array([row["mean_probability"] for row in rows]))


def total_volumes(rows: list[dict]) -> dict:
    """Number of instances, their total and median volume; volumes are None without any instance."""
    volumes = [row["volume_um3"] for row in rows]
    return {
        "instances": len(rows),
        "cut_by_border": sum(row["touches_border"] for row in rows),
        "total_um3": sum(volumes) if rows else None,
        "median_um3": float(np.median(volumes)) if rows else None,
    }


def draw_instances(labels: Volume, image: Volume, voxel_nm: Voxel, path: Path) -> Path:
    """Draws four slices of `image` under `labels`, both `z y x`; of large ones the middle."""
    limits, panels = intensity_range(image), []
    shown = central_window(labels.shape[1:], SHOWN)
    for z in evenly_spaced(range(len(labels)), 4):
        labels_yx = labels[z, *shown]
        n = len(np.unique(labels_yx[labels_yx > 0]))
        panels.append((to_uint8(image[z, *shown], limits), labels_yx, f"slice z = {z}, {n} instances"))
    return overlays.instance_sheet(panels, voxel_nm, path)


def describe_instances(result: dict) -> str:
    """The totals and, where there are any, the scores of the JSON file in two or three sentences."""
    if not result["instances"]:
        fields = "--config.instances.threshold, --config.instances.min_um3 or --config.instances.min_probability"
        return f"{result['input']}: no instance; lower {fields}."
    text = f"{result['input']}: {result['instances']} instances, {result['cut_by_border']} of them cut by the border; "
    text += f"total volume {result['total_um3']:.4g} um3, median {result['median_um3']:.3g} um3."
    if "scores" in result:
        text += f" {instances.describe(result['scores'])}"
    return text


# ---------------------------------------------------------------------------------------------------------------------
# Inputs
# ---------------------------------------------------------------------------------------------------------------------


def _open_probability(workdir: Path, config: ConfigDict) -> Volume:
    path = config.instances.input or last_prediction(workdir)
    if not config.instances.input and not is_remote(path) and not path.exists():
        raise InputError(
            f"{path} does not exist; segment a volume first (dualrel predict {quoted(workdir)} VOLUME), or "
            f"name a probability volume (dualrel instances {quoted(workdir)} PROBABILITY)."
        )
    if is_remote(path):
        check_finished(split_inner(path)[0])
    volume = open_volume(path, parse_voxel(config.predict.voxel_nm, "predict.voxel_nm"))
    if volume.dtype != np.uint8 and volume.dtype.kind not in "fb":
        raise InputError(
            f"{volume.path} holds values of type {volume.dtype}; expected probabilities as uint8 (0 to 255) or as real "
            "numbers (0 to 1): give the file that ends in _probability."
        )
    if volume.voxel_nm is None or math.isnan(volume.voxel_nm[0]):
        raise InputError(
            f"{volume.path} has no voxel size, which volumes and lengths need; set "
            "--config.predict.voxel_nm=z,y,x in nm, such as 30,8,8."
        )
    check_likely(volume.voxel_nm, volume.path, "predict.voxel_nm")
    return volume


def _open_image(record: dict, probability: Volume, settings: ConfigDict) -> Volume:
    """The EM to draw on: `config.instances.image`, else that of the `record` of the mask, else the probability."""
    if settings.image:
        return open_like(probability, settings.image, "instances.image")
    path, region = record.get("volume"), record.get("config.predict.region")
    if not isinstance(path, str) or not isinstance(region, str):
        return probability
    try:
        volume = open_volume(path, verbose=False)
        image = volume.crop(*parse_region(region, volume.shape))
    except InputError:
        return probability
    return image if image.shape == probability.shape else probability


def _threshold_of_mask(record: dict, path: Path, probability: str) -> float:
    """The threshold in the `record` mask.json that `predict` wrote of this probability; 0.5 without one."""
    if not record:
        print(
            f"{probability}: there is no record of its mask ({path}): the threshold is 0.5; "
            "--config.instances.threshold sets another."
        )
    threshold = record.get(THRESHOLD, 0.5)
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise InputError(
            f"{path} has {THRESHOLD} = {threshold!r}; expected a probability: remove it, or set "
            "--config.instances.threshold."
        )
    return threshold


def _record_of(workdir: Path, probability: str) -> Path:
    """Where `predict` writes the record of a mask: beside its probability; of one in a store, in the run."""
    place = split_inner(probability)[0]
    if isinstance(place, RemotePath):
        place = beside(place.with_side(workdir / "prediction"))
    return place.with_name(f"{place.stem.removesuffix('_probability')}.json")


def _check_output(output: Path, *inputs: str) -> None:
    """InputError, before minutes of work, for a name that cannot be written or is that of an input."""
    open_writer(output, (1, 1, 1), np.uint16)
    if output.exists() and any(output.resolve() == as_place(path).resolve() for path in inputs if path):
        raise InputError(f"config.instances.output is {output}, one of the inputs; choose another name.")
    tables = [beside(output).with_suffix(suffix) for suffix in (".csv", ".json", ".png")]
    check_outputs([output, *tables], inputs, "config.instances.output")
    check_beside(output, tables, "instances.output")
