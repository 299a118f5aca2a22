"""The tools: how each is trained for a number of steps, how it segments, and what a run of it cost."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

from dualrel_jax.errors import InputError
from dualrel_jax.utils.jsonl import read_records
from perf.time_to_quality.task import VOXEL_NM, Task

PEERS = Path(__file__).parent / "peers"
ROOT = Path(__file__).parents[2]


class Tool(NamedTuple):
    """A row of the comparison.

    Attributes:
      title: for tables and the plot.
      program: the peer's script, or ours: the method.
      environment: whose interpreter runs it: a name of `--python`; empty: ours.
      options: further words of the script.
      measured_steps: of the short training that measures a step.
    """

    title: str
    program: str
    environment: str = ""
    options: tuple[str, ...] = ()
    measured_steps: int = 3


TOOLS = {
    "dualrel": Tool("DualRel (ours)", "dualrel", measured_steps=20),
    "nnunet": Tool("nnU-Net v2, 2-D", "nnunet.py", "nnunet", measured_steps=1),
    "torch_unet": Tool("U-Net, SSL4MIS recipe", "torch_unet.py", "torch"),
    "torch_em": Tool("torch-em", "torch_em_unet.py", "torch_em"),
    "supervised": Tool("supervised (ours)", "supervised", measured_steps=20),
    "torch_em_mt": Tool("torch-em, Mean Teacher", "torch_em_unet.py", "torch_em", ("--mean-teacher",)),
    "torch_mt": Tool("U-Net, Mean Teacher of SSL4MIS", "torch_unet.py", "torch", ("--mean-teacher",)),
}


class Cost(NamedTuple):
    """CPU seconds of a training: once, and per step."""

    once: float
    step: float

    @classmethod
    def of(cls, seconds: float, step: float, steps: int) -> "Cost":
        """Of a training of `steps` that took `seconds`, `step` each."""
        return cls(max(0.0, seconds - step * steps), step)

    def steps(self, minutes: float) -> int:
        """That fit into so many CPU-minutes; at least 1."""
        return max(1, round((60 * minutes - self.once) / self.step))


def check(tool: Tool, pythons: dict[str, str]) -> None:
    """Raises InputError where the tool's interpreter is not known."""
    if tool.environment and tool.environment not in pythons:
        raise InputError(
            f"--python does not name the interpreter of {tool.environment}, which {tool.title} needs; expected "
            f"--python {tool.environment}=PATH, or leave the tool out of --tools."
        )


def train(tool: Tool, task: Task, folder: Path, steps: int, pythons: dict[str, str]) -> tuple[float, float, dict]:
    """Trains in `folder`, anew; -> CPU seconds of everything, those of a step, and what else the tool reports."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if tool.environment:
        words = [pythons[tool.environment], str(PEERS / tool.program), "train", "--task", str(task.folder)]
        seconds = run([*words, "--work", str(folder), "--steps", str(steps), *tool.options], folder / "train.txt")
        report = json.loads((folder / "train.json").read_text())
        step = report.pop("loop_cpu_seconds") / report["steps"]
    else:
        words = [sys.executable, "-m", "dualrel_jax", "train", str(folder / "run"), "--method", tool.program]
        words += ["--image", str(task.folder / "volume.tif"), "--labels", str(task.folder / "masks")]
        words += ["--voxel-nm", VOXEL_NM, "--steps", str(steps)]
        if steps < 100:  # the measurement: as many records as a median needs
            words += ["--set", "train.log_every_steps=5"]
        # A cache of its own: compiling counts, as in a first training.
        seconds = run(words, folder / "train.txt", {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")})
        report, name = {"steps": steps}, "speed/cpu_seconds_per_step"
        records = [record[name] for record in read_records(folder / "run" / "metrics.jsonl") if name in record]
        step = statistics.median(records[1:] or records)
    return seconds, step, report


def measure(tool: Tool, task: Task, folder: Path, pythons: dict[str, str]) -> Cost:
    """The cost of a tool's training, from a short one."""
    seconds, step, report = train(tool, task, folder, tool.measured_steps, pythons)
    return Cost.of(seconds, step, report["steps"])


def predict(tool: Tool, task: Task, folder: Path, pythons: dict[str, str]) -> tuple[np.ndarray, float]:
    """Masks of the scored slices by the tool's own prediction, z y x, and its CPU seconds."""
    if tool.environment:
        output = folder / "masks.npy"
        words = [pythons[tool.environment], str(PEERS / tool.program), "predict", "--task", str(task.folder)]
        seconds = run([*words, "--work", str(folder), "--output", str(output), *tool.options], folder / "predict.txt")
        return np.load(output), seconds
    output = folder / "mask.tif"
    words = [sys.executable, "-m", "dualrel_jax", "predict", str(folder / "run"), str(task.folder / "stack.tif")]
    seconds = run([*words, "--voxel-nm", VOXEL_NM, "-o", str(output)], folder / "predict.txt")
    return tifffile.imread(output)[task.scored], seconds


def run(words: Sequence[str], log: Path, variables: dict[str, str] | None = None) -> float:
    """Runs a program to its end, its output in `log`; -> CPU seconds of it and all that it started.

    Raises:
      InputError: it failed.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(variables or {})}
    with open(log, "w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"{' '.join(words)} ended with {process.returncode}; its last words are in {log}.")
    return usage.ru_utime + usage.ru_stime
