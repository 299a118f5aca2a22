"""Equal CPU-minutes: how many steps each row may take, from the CPU seconds that a step of it was measured to take."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.errors import InputError
from dualrel_jax.utils.jsonl import read_json

FILE = "step_seconds.json"  # {row: CPU seconds of a step, without compiling}
MEASURED_STEPS = 40  # of the training that measures a row; every INTERVAL of them a record, whose median counts
INTERVAL = 5
MULTIPLE = 10  # of steps, which steps_per_call may have to divide


def step_seconds(config: ConfigDict, workdir: Path) -> dict[str, float]:
    """Row -> CPU seconds of a step: those of `config.step_seconds` or, without that, those measured in `workdir`."""
    path = Path(config.step_seconds) if config.step_seconds else workdir / FILE
    if not path.exists() and not config.step_seconds:
        return {}
    table = read_json(path, {}, "delete it, and it is measured again, or name another with config.step_seconds")
    bad = [row for row, seconds in table.items() if not isinstance(seconds, int | float) or seconds <= 0]
    if bad:
        raise InputError(f"{path} has {bad[0]} = {table[bad[0]]!r}; expected CPU seconds of a step, above 0.")
    return table


def steps_of(config: ConfigDict, workdir: Path, row: str) -> int:
    """Steps that fit into `config.cpu_minutes`, a multiple of MULTIPLE and at least that."""
    table = step_seconds(config, workdir)
    if row not in table:
        raise InputError(
            f"{config.step_seconds or workdir / FILE} has no CPU seconds of a step of {row}; leave config.step_seconds "
            "empty, and they are measured first."
        )
    return max(1, round(60 * config.cpu_minutes / table[row] / MULTIPLE)) * MULTIPLE


def measure_config(config: ConfigDict) -> ConfigDict:
    """The training that measures what a step of `config` costs: short, without validation."""
    per_call = config.train.steps_per_call
    steps = dict.fromkeys(("steps", "eval_every_steps", "checkpoint_every_steps"), MEASURED_STEPS * per_call)
    steps["log_every_steps"] = INTERVAL * per_call
    train = {f"train.{key}": count for key, count in steps.items()}
    return config_lib.changed(config, {"data.validation_region": "none", **train}).lock()


def save(workdir: Path, measured: dict[str, float]) -> None:
    from dualrel_jax.utils.atomic import write_text

    write_text(workdir / FILE, json.dumps(measured, indent=2) + "\n")
