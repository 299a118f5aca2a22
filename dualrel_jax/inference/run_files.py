"""What the work folder of a run says about it, read without loading the model."""

import csv
import dataclasses
import math
import shlex
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.datasets.partition import Partition
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

    def series(self, name: str) -> tuple[list, list]:
        """(steps, finite values) of a logged number; JAC of slices without any foreground is NaN."""
        points = [
            (record["step"], record[name]) for record in self.records if math.isfinite(record.get(name, math.nan))
        ]
        return [step for step, _ in points], [value for _, value in points]

    @property
    def step(self) -> int:
        """Last logged step, 0 before the first."""
        return max((record["step"] for record in self.records), default=0)

    @property
    def training_seconds(self) -> float:
        """Time of all steps: each record's seconds per step, times the steps since the record before."""
        steps, seconds = self.series("speed/seconds_per_step")
        return float(np.dot(np.diff([0, *steps]), seconds)) if steps else 0.0

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
    return RunFiles(workdir, config, machine, scores, rows, read_records(workdir / "metrics.jsonl"), partition)
