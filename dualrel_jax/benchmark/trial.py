"""One trial of a benchmark: trains it in its folder, then scores it on every data set, in this process."""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import logging
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Dataset, Part, load_dataset
from dualrel_jax.errors import InputError
from dualrel_jax.inference import run
from dualrel_jax.inference.choice import choose_for_parts
from dualrel_jax.inference.mask_scoring import score_masks
from dualrel_jax.inference.scoring import score
from dualrel_jax.metrics.segmentation import Scores
from dualrel_jax.train import train
from dualrel_jax.training import stages
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json, read_records, without_nan

CURVE_POINTS = 100
WAIT_S = 30.0  # a trial of a benchmark that was killed ends shortly after it


def run_trial(folder: Path) -> None:
    """Trains, or continues, and scores the trial that `folder`/cell.json describes; writes scores.json there."""
    logging.set_verbosity(logging.FATAL)  # Orbax reports every save, and what this package explains
    fields = {"row": str, "labelled": str, "seed": int, "scoring": dict, "config": dict}
    trial = read_json(folder / "cell.json", fields, "repeat the benchmark's command, which writes it again")
    config = config_lib.resolve(ConfigDict(trial["config"]))
    # Opened before the training, which would be in vain without them.
    own = load_dataset(config.data)
    scoring = trial["scoring"]
    parts = parts_to_score(own, config.data, scoring["targets"], scoring["score_on"])
    regions = foreign_regions(own, config.data, scoring.get("foreign_masks", {}))
    path = folder / "scores.json"
    earlier = 0.0
    if path.exists():  # trained, and scored anew
        earlier = read_json(path, {"wall_seconds": float}, "delete it, and the training is scored again")[
            "wall_seconds"
        ]
    start = time.monotonic()
    train(config, folder, own, wait_s=WAIT_S)
    seconds = earlier + time.monotonic() - start
    record = read_json(folder / "run.json", {"devices": list, "pixel_nm": (list, type(None))}, "repeat the command")
    scores = {
        **{key: trial[key] for key in ("row", "labelled", "seed", "scoring")},
        "labelled_slices": len(Partition.load(folder / "partition.json").labelled),
        "steps": config.train.steps,
        "seconds_per_step": cost_per_step(folder, config, "speed/seconds_per_step"),
        "cpu_seconds_per_step": cost_per_step(folder, config, "speed/cpu_seconds_per_step"),
        "wall_seconds": seconds,
        "peak_memory_mib": peak_memory_mib(),
        "device": f"{len(record['devices'])} x {jax.devices()[0].device_kind}",
        "pixel_nm": record["pixel_nm"],
        "consistency_weight": _curve(stage_folders(folder)[0], "train/consistency_weight"),
        "targets": score_parts(folder, config, own, parts, scoring, regions=regions),
    }
    text = json.dumps(without_nan(scores), allow_nan=False)
    write_text(path, text + "\n")


def measure_trial(folder: Path) -> None:
    """Trains what `folder`/cell.json describes, a short training, and writes cost.json: CPU seconds of a step."""
    logging.set_verbosity(logging.FATAL)
    trial = read_json(folder / "cell.json", {"config": dict}, "repeat the benchmark's command, which writes it again")
    config = config_lib.resolve(ConfigDict(trial["config"]))
    train(config, folder, wait_s=WAIT_S)
    cost = cost_per_step(folder, config, "speed/cpu_seconds_per_step")
    write_text(folder / "cost.json", json.dumps(cost) + "\n")


def parts_to_score(own: Dataset, data: ConfigDict, targets: list[str], score_on: str) -> dict[str, tuple[Part, ...]]:
    """Data set -> what is scored there, at the pixel size of the training on `own`, which `data` describes.

    Of the training data set: its test volume, or its validation region where there is none or `score_on` is validation.
    Of another: its test volume, or every labelled slice that would train or validate there, by the same rule.
    """
    parts = {data.name: own.test if score_on == "test" and own.test else own.validation}
    for name in targets:
        if name != data.name:
            parts[name] = _foreign_parts(data, name, score_on)
    for name, of_name in parts.items():
        if not any(part.labelled_zs for part in of_name):
            raise InputError(f"The data set {name} has no labelled {score_on} slices to score on; see config.score_on.")
    return {name: _at_pixels_of(own, of_name) for name, of_name in parts.items()}


def foreign_regions(own: Dataset, data: ConfigDict, regions: dict[str, str]) -> dict[str, tuple[Part, ...]]:
    """Data set -> the region of its training volume that `regions` names, as a part, at the pixels of the training."""
    return {name: _at_pixels_of(own, _foreign(data, name, region).validation) for name, region in regions.items()}


def _at_pixels_of(own: Dataset, parts: Sequence[Part]) -> tuple[Part, ...]:
    return tuple(dataclasses.replace(part, pixel_nm=own.train[0].pixel_nm) for part in parts)


def _foreign_parts(data: ConfigDict, name: str, score_on: str) -> tuple[Part, ...]:
    dataset = _foreign(data, name)
    if score_on == "test" and dataset.test:
        return dataset.test
    return tuple(part for part in (*dataset.train, *dataset.validation) if part.labelled_zs)


def _foreign(data: ConfigDict, name: str, validation_region: str = "") -> Dataset:
    with data.copy_and_resolve_references().unlocked() as foreign:
        cleared = ("train_region", "test_image", "test_label", "test_voxel_nm", "unlabelled_from")
        foreign.update({"name": name, "validation_region": validation_region, **dict.fromkeys(cleared, "")})
    return load_dataset(foreign)


def score_parts(
    folder: Path,
    config: ConfigDict,
    own: Dataset,
    parts: dict[str, tuple[Part, ...]],
    scoring: dict,
    *,
    regions: dict[str, tuple[Part, ...]],
) -> dict[str, dict]:
    """Data set -> {"parts": names, "teacher" and "student": summary, with the "records" of slices}.

    Head and threshold are those that `predict` would choose for the same volumes. With `scoring["masks"]` only the
    weights of the config are scored, and as "masks" also what `predict` makes of the slices of the training data set;
    of other data sets `scoring["foreign_slices"]` slices, evenly spaced, and as "masks" what it makes of `regions`.
    """
    targets = {name: {"parts": [part.name for part in of_name]} for name, of_name in parts.items()}
    both = ("student", "teacher")  # the last one's threshold is kept for later predictions
    for weights in (config.predict.weights,) if scoring.get("masks") else both:
        trained = run.load_run(folder, config_lib.changed(config, {"predict.weights": weights}))
        trained.dataset = own
        for name, of_name in parts.items():
            choice = choose_for_parts(trained, of_name)
            count = scoring.get("foreign_slices", 0) if name != config.data.name else 0
            scores, _ = score(choice.predictor, trained.variables, of_name, choice.threshold, max_slices=count, show=0)
            targets[name][weights] = _summary(scores, choice.prediction_head)
            if scoring.get("masks") and name == config.data.name:
                targets[name]["masks"] = _summary(*score_masks(trained, of_name))
        for name, region in regions.items():
            targets[name]["masks"] = _summary(*score_masks(trained, region, all_planes=True))
    return targets


def _summary(scores: Scores, prediction_head: str) -> dict:
    chosen = {"prediction_head": prediction_head, "threshold": scores.threshold}
    return {**scores.summary(), **chosen, "records": scores.records}


def peak_memory_mib() -> float:
    """Largest memory of this process on the host so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def stage_folders(folder: Path) -> list[Path]:
    """Where the metrics of each stage of a training are."""
    first = folder / "first_stage"
    return [first, folder] if first.exists() else [folder]


def cost_per_step(folder: Path, config: ConfigDict, name: str) -> float | None:
    """The cost `name` of a step of the first stage, and of the steps of the second that go with it."""
    costs = [median_of(stage, name) for stage in stage_folders(folder)]
    second = stages.second_stage(config) if len(costs) > 1 else None
    if None in costs or second is None:
        return costs[0]
    return costs[0] + costs[1] * second.train.steps / config.train.steps


def median_of(folder: Path, name: str) -> float | None:
    """Of a scalar over its records but the first, which compiling is a part of."""
    values = [record[name] for record in read_records(folder / "metrics.jsonl") if name in record]
    return statistics.median(values[1:] or values) if values else None


def _curve(folder: Path, name: str) -> list[list[float]]:
    """[steps, values] of a scalar, thinned to at most twice CURVE_POINTS."""
    records = [record for record in read_records(folder / "metrics.jsonl") if name in record]
    records = records[:: max(1, len(records) // CURVE_POINTS)]
    return [[record["step"] for record in records], [record[name] for record in records]]
