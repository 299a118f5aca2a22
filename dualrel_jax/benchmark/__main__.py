"""Methods x labelled shares x seeds, each trained in a process of its own, to tables and plots.

  python -m dualrel_jax.benchmark --config configs/benchmark.py:phantom --workdir runs/bench
  python -m dualrel_jax.benchmark --config configs/benchmark.py:lucchi,to=vnc --workdir runs/bench_lucchi
  python -m dualrel_jax.benchmark --workdir runs/bench        makes its tables again, from results.json

Flags:
  --config FILE.py:DATA[,to=A+B][,unlabelled=target]
                      what is compared: configs/benchmark.py or configs/ablation.py, the training data set, and others
                      to score on, whose slices may join the unlabelled ones.
  --config.KEY=VALUE  sets a field. For all cells: --config.base.train.steps=1000, --config.base.size=small; for one
                      row: --config.rows.cps.method.consistency_weight=1. What to run: --config.only=supervised,dualrel,
                      --config.labelled=1/32,all, --config.seeds=1, --config.processes=2.
  --workdir DIR       holds table.md, table.csv, table.tex, curve.png, weights.png, results.json and a run folder a
                      cell. The same command continues a stopped benchmark: finished cells are not run again.
"""

if __name__ == "__main__":  # from the first moment; the imports below take a second
    from dualrel_jax.utils.interrupt import end_at_once

    end_at_once()

import argparse
import contextlib
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.benchmark import tables
from dualrel_jax.benchmark.scheduler import end_with_parent, make_slots, run_all
from dualrel_jax.benchmark.statistics import BASELINE, compact, compare, targets
from dualrel_jax.config.migration import migrate
from dualrel_jax.errors import InputError
from dualrel_jax.main import parse
from dualrel_jax.utils import interrupt, lock, streams
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json

# This process never imports JAX: it would take memory of the GPU, and start seconds later.

COMMAND = [sys.executable, "-m", "dualrel_jax.benchmark", "--cell"]  # and the folder of a cell
PATIENCE_S = 10.0  # after a signal, to the end of the tables that are being written


def main(argv: list[str] | None = None) -> int:
    """Runs the command; -> its exit code: 0, 2 after a sentence or a failed cell, 130 or 143 if it was stopped."""
    streams.make_safe()
    return interrupt.run_command(lambda: _main(sys.argv[1:] if argv is None else argv), as_program=argv is None)


def _main(argv: list[str]) -> int:
    if not argv or {"--help", "-h", "-help"} & set(argv):
        print(__doc__)
        return 0
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--config", "--workdir", "--cell"):
        parser.add_argument(flag, default="")
    given, rest = parser.parse_known_args(argv)
    try:
        if given.cell:
            end_with_parent()
            os.environ.setdefault("JAX_TRACEBACK_FILTERING", "off")  # else the last line of a failure is a remark on it
            from dualrel_jax.benchmark.trial import run_cell

            run_cell(Path(given.cell))
            return 0
        if given.config:
            parsed, config = parse(argv)
            interrupt.describe("Stopped; the same command continues.")
            with lock.folder_writer(parsed.workdir):
                return run(config, Path(parsed.workdir))
        if rest or not given.workdir:
            raise InputError(
                "--config and --workdir are needed to run a benchmark, --workdir alone to make its tables."
            )
        if not (Path(given.workdir) / "results.json").is_file():
            raise InputError(
                f"{given.workdir} holds no benchmark (results.json is missing); run one there with --config first."
            )
        with lock.folder_writer(given.workdir):
            remake_outputs(Path(given.workdir))
    except InputError as error:
        print(f"dualrel: {error}", file=sys.stderr)
        return 2
    return 0


def run(config: ConfigDict, workdir: Path) -> int:
    """Runs every cell that is not finished and writes the outputs after each; -> exit code."""
    cells = plan(config, workdir)
    for cell in (*cells, *on_disk(config, workdir)):
        cell.check()
    waiting = {cell.folder / "log.txt": cell for cell in cells if not cell.is_finished()}
    workdir.mkdir(parents=True, exist_ok=True)
    plain = json.loads(config.to_json_best_effort())
    write_outputs(plain, collect(config, workdir), workdir)
    slots = make_slots(config.processes, len(waiting)) if waiting else []
    print(f"{len(cells)} cells, {len(waiting)} of them to run, {len(slots)} at a time.", flush=True)
    progress, failed = Progress(cells, list(waiting.values()), len(slots)), []
    for cell in waiting.values():
        cell.write()
    commands = {log: [*COMMAND, str(cell.folder)] for log, cell in waiting.items()}
    interrupt.describe("Stopped; the same command continues.", patience_s=PATIENCE_S)
    with contextlib.closing(run_all(commands, slots)) as ended:
        for log, code, seconds, running in ended:
            cell = waiting[log]
            if code == 0:
                write_outputs(plain, collect(config, workdir), workdir)
                told = progress.finished(cell, seconds, {waiting[key]: so_far for key, so_far in running.items()})
            else:
                failed.append(f"{cell}: exit code {code}, {cell.last_words()} ({log})")
                told = progress.failed(cell)
            print(told, flush=True)
    if failed:
        print(f"{len(failed)} of {len(cells)} cells failed; the same command tries them again:", file=sys.stderr)
        print(*(f"  {line}" for line in failed), sep="\n", file=sys.stderr)
        return 2
    print(f"Done: {workdir}/table.md, table.csv, table.tex, curve.png, weights.png, results.json", flush=True)
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Cells
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cell:
    """One training. `scoring` says how it is scored: data sets, part and the settings of the prediction."""

    row: str
    labelled: str
    seed: int
    folder: Path
    config: ConfigDict
    scoring: dict

    def __str__(self) -> str:
        return f"{self.row}, {self.labelled} labelled, seed {self.seed}"

    def check(self) -> None:
        """InputError if the folder holds the training of another config."""
        path = self.folder / "config.json"
        different = config_lib.difference(config_lib.load(path), self.config) if path.exists() else ""
        if different:
            raise InputError(
                f"{self.folder} was trained with another config ({different}); repeat that config, or choose another "
                "--workdir."
            )

    def is_finished(self) -> bool:
        """Trained, and scored where and as it is asked for now."""
        if not (self.folder / "scores.json").exists():
            return False
        scoring = self.scores()["scoring"]
        covered = set(self.scoring["targets"]) <= set(scoring["targets"])
        return covered and {**scoring, "targets": None} == {**self.scoring, "targets": None}

    def scores(self) -> dict:
        fields = {"row": str, "labelled": str, "seed": int, "scoring": dict, "targets": dict, "wall_seconds": float}
        scores = read_json(self.folder / "scores.json", fields, "delete it, and the training is scored again")
        scores["scoring"] |= migrate({"predict": scores["scoring"]["predict"]})
        return scores

    def write(self) -> None:
        """cell.json, from which a process knows what to do."""
        about = {"row": self.row, "labelled": self.labelled, "seed": self.seed, "scoring": self.scoring}
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**about, "config": json.loads(self.config.to_json())}, indent=2)
        write_text(self.folder / "cell.json", text + "\n")

    def last_words(self) -> str:
        lines = (self.folder / "log.txt").read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def plan(config: ConfigDict, workdir: Path) -> list[Cell]:
    """Every cell of the benchmark, seed by seed, so that a table fills evenly. InputError for a wrong config."""
    if "rows" not in config:
        raise InputError(
            "--config is not that of a benchmark; use configs/benchmark.py:DATA or configs/ablation.py:DATA."
        )
    from dualrel_jax.data.datasets.registry import DATASETS

    rows, only = list(config.rows), [row for row in config.only.split(",") if row]
    for row in only:
        if row not in rows:
            raise InputError(f"config.only names {row}; expected some of {', '.join(rows)}, separated by commas.")
    if config.score_on not in ("test", "validation"):
        raise InputError(f"config.score_on is {config.score_on!r}; expected test or validation.")
    names = targets(config)
    if unknown := [name for name in names[1:] if name not in DATASETS or name == names[0]]:
        raise InputError(f"config.to names {unknown[0]}; expected data sets to test on beside {names[0]}, joined by +.")
    if config.base.predict.foreground_fraction:
        raise InputError(
            f"config.base.predict.foreground_fraction is {config.base.predict.foreground_fraction}; expected 0: it is "
            "of one volume, and models are scored on several."
        )
    if config.base.data.partition_file:
        raise InputError(
            f"config.base.data.partition_file is {config.base.data.partition_file}; expected none: config.labelled "
            "says which slices keep their labels."
        )
    for key in ("seeds", "bootstrap"):
        if config[key] < 1:
            raise InputError(f"config.{key} is {config[key]}; expected 1 or more.")
    if config.first_seed < 0:
        raise InputError(f"config.first_seed is {config.first_seed}; expected 0 or more.")
    rows = only or rows
    labelled = [share.strip() for share in str(config.labelled).split(",") if share.strip()]
    pairs = [(row, share) for share in labelled for row in rows]
    if config.bounds and BASELINE in rows:
        pairs.append((BASELINE, "all"))
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    return [cell_of(config, workdir, *pair, seed) for seed in seeds for pair in dict.fromkeys(pairs)]


def cell_of(config: ConfigDict, workdir: Path, row: str, labelled: str, seed: int) -> Cell:
    own = config.base.copy_and_resolve_references().unlock()
    own.seed, own.data.labelled = seed, labelled
    own.method = config.rows[row].method
    own = config_lib.resolve(own)
    elsewhere = ("input", "output", "voxel_nm", "probability", "weights", "batch")  # no part in the scores
    scoring = {
        "targets": targets(config),
        "score_on": config.score_on,
        "predict": {key: value for key, value in own.predict.items() if key not in elsewhere},
        "test": [own.data.test_image, own.data.test_label],
    }
    return Cell(row, labelled, seed, workdir / labelled.replace("/", "_") / row / f"seed_{seed}", own, scoring)


def on_disk(config: ConfigDict, workdir: Path) -> list[Cell]:
    """Cells in `workdir` of the config's rows that have scores, whether or not they are planned now."""
    found = []
    for path in sorted(workdir.glob("*/*/seed_*/scores.json")):
        fields = {"row": str, "labelled": str, "seed": int}
        scores = read_json(path, fields, "delete it, and the training is scored again")
        if scores["row"] in config.rows:
            found.append(cell_of(config, workdir, scores["row"], scores["labelled"], scores["seed"]))
    return found


def collect(config: ConfigDict, workdir: Path) -> list[dict]:
    return [compact(cell.scores()) for cell in on_disk(config, workdir) if cell.is_finished()]


# ---------------------------------------------------------------------------------------------------------------------
# What is told
# ---------------------------------------------------------------------------------------------------------------------


class Progress:
    """A line a cell, with the time that the rest will take by what the cells of each row took."""

    def __init__(self, cells: Sequence[Cell], waiting: Sequence[Cell], slots: int):
        self._total, self._slots, self._left = len(cells), slots, list(waiting)
        self._seconds: dict[str, list[float]] = {}
        for cell in cells:
            if cell not in self._left:
                self._seconds.setdefault(cell.row, []).append(cell.scores()["wall_seconds"])

    def finished(self, cell: Cell, seconds: float, running: Mapping[Cell, float]) -> str:
        self._left.remove(cell)
        self._seconds.setdefault(cell.row, []).append(seconds)
        scores = cell.scores()["targets"]
        found = {name: target[cell.config.predict.weights]["jac_pooled"] for name, target in scores.items()}
        jac = ", ".join(f"{name} {'none' if value is None else f'{value:.1%}'}" for name, value in found.items())
        left = f"{len(self._left)} left, about {_time(self._remaining(running))}" if self._left else "the last one"
        return f"{cell}: JAC {jac}; {_time(seconds)}; {left}"

    def failed(self, cell: Cell) -> str:
        self._left.remove(cell)
        return f"{cell}: failed, {cell.last_words()}"

    def _remaining(self, running: Mapping[Cell, float]) -> float:
        means = {row: statistics.fmean(seconds) for row, seconds in self._seconds.items()}
        usual = statistics.fmean(means.values())
        return sum(max(0, means.get(cell.row, usual) - running.get(cell, 0)) for cell in self._left) / self._slots


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def write_outputs(config: Mapping, cells: Sequence[Mapping], workdir: Path) -> None:
    """Tables, plots and results.json, from which all of them can be made again."""
    from dualrel_jax.benchmark import plots

    text = json.dumps({"config": config, "cells": cells}, allow_nan=False)
    write_text(workdir / "results.json", text.replace('{"row"', '\n{"row"') + "\n")
    if not cells:
        return
    entries = compare(config, cells)
    made = tables.make_tables(config, cells, entries)
    write_text(workdir / "table.md", tables.markdown(made))
    write_text(workdir / "table.tex", tables.latex(made))
    write_text(workdir / "table.csv", tables.csv_text(entries))
    plots.score_curves(entries, [workdir / "curve.png", workdir / "curve.pdf"])
    plots.weight_curves(config, cells, [workdir / "weights.png"])


def remake_outputs(workdir: Path) -> None:
    path = workdir / "results.json"
    if not path.is_file():
        raise InputError(f"{workdir} holds no benchmark ({path.name} is missing); run one there with --config first.")
    fields = {"config": dict, "cells": list}
    results = read_json(path, fields, "repeat the benchmark's command, which writes it again")
    write_outputs(results["config"], results["cells"], workdir)


if __name__ == "__main__":
    sys.exit(main())
