"""How long until something happens: --help, the import, and the first step of a training whose program is cached."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from perf.input import write_volume
from perf.processes import run_python, seconds_until
from perf.report import Table, command, quartiles

MAIN = [sys.executable, "-m", "dualrel_jax.main"]


def main(quick: bool = False) -> Iterator[Table]:
    repeats, rows = 1 if quick else 5, []
    help_s = [seconds_until([*MAIN, "--help"], "The command line", {}) for _ in range(repeats)]
    rows.append(["`dualrel --help`", quartiles(help_s), ""])
    for name in ("dualrel_jax", "jax", "dualrel_jax.train"):
        imports = [run_python(f"import {name}") for _ in range(repeats)]
        seconds, peaks = ([getattr(ended, key) for ended in imports] for key in ("seconds", "peak_mib"))
        rows.append([f"`import {name}`", quartiles(seconds), quartiles(peaks)])
    with tempfile.TemporaryDirectory() as folder:
        fields = {f"data.{key}": value for key, value in write_volume(Path(folder)).items()}
        fields.update({"train.log_every_steps": 1, "data.pipeline": "resident"})
        if quick:
            fields.update({"model.width": 4, "model.depth": 2, "train.crop_px": 32, "train.optimizer": "adamw"})
        flags = [f"--config.{key}={value}" for key, value in fields.items()]
        cached = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        starts = []
        for i in range(1 + (1 if quick else 3)):
            training = [*MAIN, "--config=configs/dualrel.py:own,4", f"--workdir={folder}/{i}", "--mode=train", *flags]
            starts.append(seconds_until(training, "step 1/", cached))
    rows.append(["first step of the first training", starts[0], ""])
    rows.append(["first step of a later one", quartiles(starts[1:]), ""])
    note = (
        "Seconds since the process was started, medians and quartiles of processes. The trainings are DualRel at size "
        "tiny on a small volume; the first fills the cache of compiled programs that the later ones find."
    )
    yield Table("Start-up", ["what", "s", "peak MiB"], rows, note)


if __name__ == "__main__":
    sys.exit(command(main))
