"""The trials of a benchmark: which there are, their folders, and which of them are finished."""

import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.benchmark import budget
from dualrel_jax.benchmark.statistics import BASELINE, compact, domains_of, targets
from dualrel_jax.config.migration import migrate
from dualrel_jax.errors import InputError
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json


@dataclass(frozen=True, eq=False)
class Trial:
    """One training. `scoring` holds how it is scored: data sets, part and the settings of the prediction."""

    row: str
    labelled: str
    seed: int
    folder: Path
    config: ConfigDict
    scoring: dict
    domain: str = ""  # of a benchmark over several domains

    def __str__(self) -> str:
        return f"{self.domain and f'{self.domain}, '}{self.row}, {self.labelled} labelled, seed {self.seed}"

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
        """Trained, and scored on the data sets and with the settings of today."""
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
        """cell.json, which the process of the trial reads."""
        names = {"row": self.row, "labelled": self.labelled, "seed": self.seed, "scoring": self.scoring}
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**names, "config": json.loads(self.config.to_json())}, indent=2)
        write_text(self.folder / "cell.json", text + "\n")

    def last_line(self) -> str:
        """Of its log."""
        lines = (self.folder / "log.txt").read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


def plan(config: ConfigDict, workdir: Path) -> list[Trial]:
    """Every trial of the benchmark, seed by seed, so that a table fills evenly. InputError for a wrong config."""
    _check(config)
    pairs = [(row, labelled) for labelled in partitions_of(config) for row in rows_of(config)]
    if config.bounds and BASELINE in rows_of(config):
        pairs.append((BASELINE, "all"))
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    cells = itertools.product(seeds, dict.fromkeys(pairs), domains_of(config))
    return [trial_of(config, workdir, *pair, seed, domain=domain) for seed, pair, domain in cells]


def plan_measurements(config: ConfigDict, workdir: Path) -> dict[str, Trial]:
    """Row -> the short training that measures its step, of rows to run that no table of `budget` has yet."""
    _check(config)
    if not config.get("cpu_minutes") or config.step_seconds:
        return {}
    table, trials = budget.step_seconds(config, workdir), {}
    for row in rows_of(config):
        if row not in table:
            names = row, partitions_of(config)[0], config.first_seed
            trial = trial_of(config, workdir, *names, domain=domains_of(config)[0], steps=budget.MEASURED_STEPS)
            own = budget.measure_config(trial.config)
            trials[row] = dataclasses.replace(trial, folder=workdir / "step_seconds" / row, config=own)
    return trials


def rows_of(config: ConfigDict) -> list[str]:
    return [row for row in config.only.split(",") if row] or list(config.rows)


def partitions_of(config: ConfigDict) -> list[str]:
    return [labelled.strip() for labelled in str(config.labelled).split(",") if labelled.strip()]


def _check(config: ConfigDict) -> None:
    if "rows" not in config:
        raise InputError(
            "--config is not that of a benchmark; use configs/benchmark.py:DATA or configs/ablation.py:DATA."
        )
    from dualrel_jax.data.datasets.registry import DATASETS

    for row in filter(None, config.only.split(",")):
        if row not in config.rows:
            rows = ", ".join(config.rows)
            raise InputError(f"config.only names {row}; expected some of {rows}, separated by commas.")
    if config.score_on not in ("test", "validation"):
        raise InputError(f"config.score_on is {config.score_on!r}; expected test or validation.")
    for domain in filter(None, domains_of(config)):
        if domain not in DATASETS:
            raise InputError(f"config.domains names {domain}; expected some of {', '.join(DATASETS)}.")
    names = targets(config)
    if unknown := [name for name in names[1:] if name not in DATASETS or name == names[0]]:
        raise InputError(f"config.to names {unknown[0]}; expected data sets to test on beside {names[0]}, joined by +.")
    if config.base.predict.foreground_fraction:
        raise InputError(
            f"config.base.predict.foreground_fraction is {config.base.predict.foreground_fraction}; expected 0: it is "
            "of one volume, and models are scored on several."
        )
    if config.base.predict.points:
        raise InputError(
            f"config.base.predict.points is {config.base.predict.points}; expected none: they are of one volume, and "
            "models are scored on several."
        )
    if config.base.predict.planes == "xyz":
        raise InputError("config.base.predict.planes is xyz; expected auto or xy: benchmarks score slices.")
    if config.base.data.partition_file:
        raise InputError(
            f"config.base.data.partition_file is {config.base.data.partition_file}; expected none: config.labelled "
            "says which slices keep their labels."
        )
    for key, least in {"seeds": 1, "first_seed": 0, "processes": 0, "foreign_slices": 0}.items():
        if config.get(key, least) < least:
            raise InputError(f"config.{key} is {config[key]}; expected {least} or more.")


def trial_of(
    config: ConfigDict, workdir: Path, row: str, labelled: str, seed: int, *, domain: str = "", steps: int = 0
) -> Trial:
    """The trial of a row; `domain`: of a benchmark over several; `steps`: others than its budget leads to."""
    own = config.base.copy_and_resolve_references().unlock()
    own.seed, own.data.labelled = seed, labelled
    if own.data.partition == "random":  # other slices with each seed, so that their choice is part of the spread
        own.data.partition_seed = seed
    own.method = config.rows[row].method
    folder = workdir / domain if domain else workdir
    if domain:
        own.data.name = domain
        own.data.update(config.domains[domain])
    if steps or config.get("cpu_minutes"):
        own.train.steps = steps or budget.steps_of(config, workdir, row)
    own = config_lib.resolve(own)
    without_effect = ("input", "output", "voxel_nm", "probability", "weights", "batch")  # on the scores
    scoring = {
        "targets": targets(config, domain),
        "score_on": config.score_on,
        "predict": {key: value for key, value in own.predict.items() if key not in without_effect},
        "test": [own.data.test_image, own.data.test_label],
    }
    scoring |= {key: config[key] for key in ("masks", "foreign_slices") if config.get(key)}
    if config.get("foreign_masks"):
        scoring["foreign_masks"] = {name: config.foreign_regions[name] for name in scoring["targets"][1:]}
    folder = folder / labelled.replace("/", "_") / row / f"seed_{seed}"
    return Trial(row, labelled, seed, folder, own, scoring, domain)


def on_disk(config: ConfigDict, workdir: Path) -> list[Trial]:
    """Trials in `workdir` of the config's rows that have scores, whether or not they are planned now."""
    trials = []
    for domain in domains_of(config):
        for path in sorted((workdir / domain).glob("*/*/seed_*/scores.json")):
            fields = {"row": str, "labelled": str, "seed": int}
            scores = read_json(path, fields, "delete it, and the training is scored again")
            if scores["row"] in config.rows:
                names = scores["row"], scores["labelled"], scores["seed"]
                # A row that is not run now may have no time of a step: its steps are those it was trained with.
                untimed = config.get("cpu_minutes") and scores["row"] not in budget.step_seconds(config, workdir)
                steps = scores.get("steps", 0) if untimed else 0
                trials.append(trial_of(config, workdir, *names, domain=domain, steps=steps))
    return trials


def collect(config: ConfigDict, workdir: Path) -> list[dict]:
    """Scores of the finished trials, as results.json holds them."""
    finished = [trial for trial in on_disk(config, workdir) if trial.is_finished()]
    return [compact(trial.scores()) | ({"domain": trial.domain} if trial.domain else {}) for trial in finished]
