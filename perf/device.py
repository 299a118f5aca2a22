"""All that an accelerator must answer, in one call of some minutes: the parts that matter most come first.

  python -m perf.device --minutes 8 --output device                 # on the machine with the accelerator
  python -m perf.device --minutes 8 --output device --data data     # also trains on Lucchi, if data/lucchi is there
  python -m perf.device --quick --output device                     # toy sizes: does it run?

A part is a process with a time limit. What it printed is in OUTPUT/NAME.txt, its tables are in OUTPUT/NAME.json. After
every part OUTPUT/summary.json has the end of each part so far, so nothing is lost when the time is up.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dualrel_jax.errors import InputError
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_records

LEAST_S = 20  # a part with less time left is not begun
GRACE_S = 15  # for a training to write its last checkpoint after it was asked to stop


class Part(NamedTuple):
    """What one process answers.

    Attributes:
      name: of its files.
      question: for the summary.
      argv: words after `python`.
      limit_s: seconds it may take of 8 minutes; scaled to those asked for.
      run: the work folder of a training, whose records the summary sums up.
    """

    name: str
    question: str
    argv: list[str]
    limit_s: float
    run: Path | None = None


def parts(output: Path, data: str, quick: bool) -> Iterator[Part]:
    """All parts, in order of value."""

    def training(name: str, question: str, limit_s: float, **fields) -> Part:
        toy = {"model.width": 4, "model.depth": 2, "model.stem": 2, "model.dtype": "float32", "train.crop_px": 32}
        toy = {**toy, "train.optimizer": "adamw"} if quick else {}
        fields = {"train.steps": 12 if quick else 300, "train.log_every_steps": 2 if quick else 10, **fields, **toy}
        fields.setdefault("train.eval_every_steps", fields["train.steps"])
        words = ["-m", "dualrel_jax.main", f"--config=configs/dualrel.py:{fields.pop('data', 'phantom')}"]
        words += [f"--workdir={output / name}", "--mode=train"]
        return Part(name, question, words + [f"--config.{k}={v}" for k, v in fields.items()], limit_s, output / name)

    def benchmark(name: str, question: str, limit_s: float) -> Part:
        words = ["-m", f"perf.{name}", "--json", str(output / f"{name}.json"), *(["--quick"] if quick else [])]
        return Part(name, question, words, limit_s)

    full_rate = {"size": "base", "train.warmup_steps": 0}
    yield training("base", "Is every step of size base finite, and how fast is it?", 75, size="base")
    yield training("base_full_rate", "Is it finite at the full learning rate from the first step on?", 60, **full_rate)
    yield training("small", "Is every step of size small finite, and how fast is it?", 40, size="small")
    yield benchmark("training", "How does a step compare with PyTorch and with the floor?", 75)
    yield benchmark("training_compiled", "And with PyTorch, compiled?", 90)
    traced = {"profile.start_step": 6 if quick else 20, "profile.num_steps": 5, "train.steps": 12 if quick else 40}
    yield training("profile", "Where does the time of a step go?", 30, size="base", **traced)
    folder = str(output / "profile" / "profile")
    yield Part("profile_table", "The same, by scope", ["-m", "dualrel_jax.training.profiling", folder], 30)
    yield benchmark("prototypes", "What is the share of the prototypes?", 45)
    yield benchmark("prediction", "How fast is a stack segmented?", 60)
    calls = {"size": "small", "train.steps_per_call": 2 if quick else 10}
    yield training("steps_per_call", "What do ten steps per call gain over the steps of `small`?", 30, **calls)
    if (Path(data) / "lucchi").is_dir():
        fields = {"data": "lucchi,5", "data.dir": data, "size": "small", "train.steps": 12 if quick else 2000}
        yield training("lucchi", "How good is size small with 5 labels of Lucchi?", math.inf, **fields)


def main() -> int:
    """-> the exit code: 1 if a part failed, 0 also where the time ended some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="for all parts together")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--data", default="data", help="folder of the public data sets")
    parser.add_argument("--quick", action="store_true", help="toy sizes: does it run?")
    flags = parser.parse_args()
    try:
        ends = measure(flags.output, flags.data, 60 * flags.minutes, flags.quick)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return int(any(end["end"] == "failed" for end in ends.values()))


def measure(output: Path, data: str, seconds: float, quick: bool) -> dict[str, dict]:
    """Runs the parts within `seconds`; -> what the summary holds, name -> its end."""
    if output.exists():
        raise InputError(f"--output {output} exists; name a folder that does not.")
    output.mkdir(parents=True)
    deadline, ends = time.monotonic() + seconds, {}
    for part in parts(output, data, quick):
        left = deadline - time.monotonic()
        if left < LEAST_S:
            ends[part.name] = {"question": part.question, "end": "no time left"}
        else:
            ends[part.name] = run(part, output, min(left, part.limit_s * seconds / 480))
        print(f"{part.name}: {json.dumps(ends[part.name])}", flush=True)
        write_text(output / "summary.json", json.dumps(ends, indent=1) + "\n")
    return ends


def run(part: Part, output: Path, limit_s: float) -> dict:
    """Runs one part; -> its end, seconds and, of a training, its records summed up."""
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONUNBUFFERED": "1"}
    start = time.monotonic()
    with open(output / f"{part.name}.txt", "w") as log:
        process = subprocess.Popen(
            [sys.executable, *part.argv], stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            end = "failed" if process.wait(limit_s) else "done"
        except subprocess.TimeoutExpired:
            end = "stopped at its limit"
            stop(process)
    result = {"question": part.question, "end": end, "seconds": round(time.monotonic() - start, 1)}
    return {**result, **(training_records(part.run) if part.run else {})}


def stop(process: subprocess.Popen) -> None:
    """Asks a process to stop, then ends it and all that it started."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def training_records(run_folder: Path) -> dict:
    """Of a training so far: steps, the last loss, how many steps were not finite, the median seconds of a step."""
    records = [record for record in read_records(run_folder / "metrics.jsonl") if "speed/seconds_per_step" in record]
    if not records:
        return {}
    return {
        "steps": records[-1]["step"],
        "loss": records[-1].get("train/loss"),
        "steps not finite": records[-1].get("train/skipped_steps", 0),
        "seconds per step": statistics.median(record["speed/seconds_per_step"] for record in records),
    }


if __name__ == "__main__":
    sys.exit(main())
