"""What the benchmarks of speed share: timing in alternating rounds, quartiles, tables as Markdown and JSON."""

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
from dualrel_jax.utils.tables import markdown_table


class Quartiles(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float


@dataclasses.dataclass
class Table:
    """Cells are numbers, quartiles or text; the note holds what a reader needs to know to use the numbers."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""

    def markdown(self) -> str:
        table = markdown_table(self.columns, ([format_cell(cell) for cell in row] for row in self.rows))
        return "\n\n".join(filter(None, [f"### {self.title}", table, self.note])) + "\n"


def format_cell(cell: Any) -> str:
    """Three digits; quartiles as `median (low to high)`."""
    if isinstance(cell, Quartiles):
        return f"{format_cell(cell.median)} ({format_cell(cell.low)} to {format_cell(cell.high)})"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)


def step_clock() -> Callable[[], float]:
    """CPU time where one core is used, which other programs may share; else the clock on the wall."""
    import jax

    return time.process_time if jax.default_backend() == "cpu" and cores() == 1 else time.perf_counter


def alternate(contenders: Mapping[str, Callable[[int], Any]], rounds: int, steps: int) -> dict[str, np.ndarray]:
    """Seconds a step of each contender in each round by `step_clock`, name -> (rounds,).

    A contender does the given number of steps and returns when their results are there. All are warmed up by the
    caller. In every round each has its turn, forwards and backwards by turns, so that what else the machine does meets
    all alike. The first step of a turn is not counted: caches fill, and the other library's threads go to sleep.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order, clock = list(contenders), step_clock()
    for _ in range(rounds):
        for name in order:
            contenders[name](1)
            start = clock()
            contenders[name](steps)
            times[name].append((clock() - start) / steps)
        order.reverse()
    return {name: np.array(values) for name, values in times.items()}


def quartiles(values: Any) -> Quartiles:
    return Quartiles(*(float(q) for q in np.percentile(values, (50, 25, 75))))


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
    facts = {"CPU": f"{(names or [platform.processor()])[0]}, {cores()} cores used", "system": platform.platform()}
    if jax.default_backend() != "cpu":
        facts["accelerator"] = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    facts["Python"] = platform.python_version()
    for package in ("jax", "jaxlib", "flax", "optax", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts[package] = metadata.version(package)
    return facts


def command(main: Callable[[bool], Iterator[Table]]) -> int:
    """`python -m perf.NAME [--quick] [--json OUT]`: prints the tables as they come; -> the exit code."""
    doc = sys.modules["__main__"].__doc__
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smallest shapes, few repeats: does it run?")
    parser.add_argument("--json", type=Path, help="also write the tables to this file")
    flags = parser.parse_args()
    # Half of a GPU's memory would otherwise be JAX's before PyTorch asks.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    tables, out = [], sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the package itself prints
            for table in main(flags.quick):
                print(table.markdown(), file=out, flush=True)
                tables.append(table)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    facts = machine()
    print("; ".join(f"{name}: {value}" for name, value in facts.items()) + "\n", flush=True)
    if flags.json:
        record = {"machine": facts, "tables": [dataclasses.asdict(table) for table in tables]}
        flags.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0
