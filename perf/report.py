"""How benchmarks time, and how they tell: rounds in alternation, medians with quartiles, Markdown and JSON."""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dualrel_jax.errors import InputError


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float


@dataclasses.dataclass
class Table:
    """Cells are numbers, spreads or text; the note says what a reader must know to use the numbers."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *([in_words(cell) for cell in row] for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(filter(None, [f"### {self.title}", table, self.note])) + "\n"


def in_words(cell: Any) -> str:
    """Three digits; a spread as `median (low to high)`."""
    if isinstance(cell, Spread):
        return f"{in_words(cell.median)} ({in_words(cell.low)} to {in_words(cell.high)})"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)


def alternate(contenders: Mapping[str, Callable[[int], Any]], rounds: int, steps: int) -> dict[str, np.ndarray]:
    """Seconds a step of each contender in each round, name -> (rounds,).

    A contender does the number of steps it is told and returns when their results are there. All are warmed up by the
    caller. In every round each has its turn, forwards and backwards by turns, so that what else the machine does meets
    all alike. The first step of a turn is not counted: caches fill, and the other library's threads go to sleep.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            contenders[name](1)
            start = time.perf_counter()
            contenders[name](steps)
            times[name].append((time.perf_counter() - start) / steps)
        order.reverse()
    return {name: np.array(values) for name, values in times.items()}


def spread(values: Any) -> Spread:
    return Spread(*(float(q) for q in np.percentile(values, (50, 25, 75))))


def cores() -> int:
    """CPU cores this process may use (`taskset`); XLA has as many threads, and PyTorch is given as many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def import_torch():
    """PyTorch with as many threads as XLA and its precision on GPUs (TF32 for float32); InputError without it."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "This benchmark compares with PyTorch, which is not installed: pip install 'dualrel-jax[perf]'."
        ) from error
    torch.set_num_threads(cores())
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    return torch


def machine() -> dict[str, str]:
    """What the numbers were measured on and with."""
    import jax

    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(": ")[2] for line in info if line.startswith("model name")]
    found = {"CPU": f"{(names or [platform.processor()])[0]}, {cores()} cores used", "system": platform.platform()}
    if jax.default_backend() != "cpu":
        found["accelerator"] = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    found["Python"] = platform.python_version()
    for package in ("jax", "jaxlib", "flax", "optax", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def command(main: Callable[[bool], Iterator[Table]]) -> int:
    """`python -m perf.NAME [--quick] [--json OUT]`: prints the tables as they come; -> the exit code."""
    doc = sys.modules["__main__"].__doc__
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smallest shapes, few repeats: does it run?")
    parser.add_argument("--json", type=Path, help="also write the tables to this file")
    given = parser.parse_args()
    # Half of a GPU's memory would otherwise be JAX's before PyTorch asks.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    tables, out = [], sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the package itself has to say
            for table in main(given.quick):
                print(table.markdown(), file=out, flush=True)
                tables.append(table)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    about = machine()
    print("; ".join(f"{name}: {value}" for name, value in about.items()) + "\n", flush=True)
    if given.json:
        record = {"machine": about, "tables": [dataclasses.asdict(table) for table in tables]}
        given.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0
