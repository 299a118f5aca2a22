"""What the work folder of a run says about it, read without loading the model."""

import csv
import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.training import stages
from dualrel_jax.utils.jsonl import read_json, read_records

_FILES = {  # file -> its fields, and what to do where it is damaged
    "run.json": (
        {"devices": list, "git_revision": (str, type(None)), "python": str, "versions": dict},
        "copy it from where the run was trained, or remove it",
    ),
    "metrics.json": (
        {"slices": int, "part": list, "slices_without_foreground": int, "weights": str, "step": int},
        "write it again by dualrel evaluate",
    ),
}


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The files of a work folder; empty or None where one is missing."""

    workdir: Path
    config: ConfigDict  # config.json
    machine: dict  # run.json: devices, versions, revision, pixel size of the training
    scores: dict  # metrics.json
    slices: list[dict]  # slices.csv: {"z": int, "jac": float, or None where undefined}
    records: list[dict]  # metrics.jsonl
    partition: Partition | None  # partition.json
    first_records: list[dict] = dataclasses.field(default_factory=list)  # metrics.jsonl of the first of two stages

    def series(self, name: str) -> tuple[list, list]:
        """(steps, finite values) of a logged number; JAC of slices without any foreground is NaN."""
        return finite_series(self.records, name)

    @property
    def step(self) -> int:
        """Logged steps of the training, both stages of it where there are two."""
        return sum(max((entry["step"] for entry in stage), default=0) for stage in (self.first_records, self.records))

    @property
    def planned_steps(self) -> int:
        second = stages.second_stage(self.config)
        return self.config.train.steps + (second.train.steps if second else 0)

    @property
    def training_seconds(self) -> float:
        """Time of all steps: each record's seconds per step, times the steps since the record before."""
        seconds = 0.0
        for records in (self.first_records, self.records):
            steps, each = finite_series(records, "speed/seconds_per_step")
            seconds += float(np.dot(np.diff([0, *steps]), each)) if steps else 0.0
        return seconds

    @property
    def training_command(self) -> str:
        """The training as a command line for a shell, one flag per line."""
        config = self.config
        words = [f"--config=configs/{config.method.name}.py:{config.data.name},{config.data.labelled}"]
        words += [f"--workdir={self.workdir}", f"--config.size={config.size}", f"--config.seed={config.seed}"]
        for key, value, _ in config_lib.changes(config):
            words.append(f"--config.{key}={tuple(value) if isinstance(value, list) else value}")
        return " \\\n    ".join(["dualrel", *map(shlex.quote, words)])


def read_run_files(workdir: Path) -> RunFiles:
    """Reads the files of `workdir`; InputError if it holds no run."""
    config = config_lib.load(workdir / "config.json")
    machine, scores = (
        read_json(workdir / name, fields, advice) if (workdir / name).exists() else {}
        for name, (fields, advice) in _FILES.items()
    )
    rows, partition = [], None
    if scores and (workdir / "slices.csv").exists():
        with (workdir / "slices.csv").open(newline="", encoding="utf-8") as file:
            rows = [
                {"z": int(row["z"]), "jac": float(row["jac"]) if row["jac"] else None} for row in csv.DictReader(file)
            ]
    if (workdir / "partition.json").exists():
        partition = Partition.load(workdir / "partition.json")
    records, first_records = (read_records(folder / "metrics.jsonl") for folder in (workdir, workdir / "first_stage"))
    return RunFiles(workdir, config, machine, scores, rows, records, partition, first_records)


def finite_series(records: Sequence[Mapping], name: str) -> tuple[list, list]:
    """(steps, values) of the records in which `name` is a finite number."""
    points = [(record["step"], record[name]) for record in records if math.isfinite(record.get(name, math.nan))]
    return [step for step, _ in points], [value for _, value in points]
