"""JAC after so many CPU-minutes of training from five labelled slices of Lucchi, for our methods and other tools.

  python -m perf.time_to_quality --data data --output time --python torch=PATH torch_em=PATH nnunet=PATH
  python -m perf.time_to_quality --data data --output time --tools dualrel supervised --budgets 5

CPU-minutes are process time of the training command and of all that it starts, from an empty cache of compilations; a
busy machine does not change them. Each (tool, budget) is one training whose schedule ends at its budget; a short
training before, later the longest so far, says what a step costs. Each tool makes its masks by its own prediction. What
is measured is in OUTPUT/time_to_quality.json after each part; the same command continues. Use `taskset` for the cores.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dualrel_jax.errors import InputError
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.tables import markdown_table
from perf.report import machine
from perf.time_to_quality import plot, tools
from perf.time_to_quality.task import LABELLED, Task, write_task
from perf.time_to_quality.tools import TOOLS, Cost

FILE = "time_to_quality.json"
VERSIONS = (
    "import importlib.metadata as m, json, platform as p\n"
    "print(json.dumps({'Python': p.python_version()} | {name: m.version(name) for name in %r}))"
)
PACKAGES = {"torch": ["torch"], "torch_em": ["torch", "torch-em"], "nnunet": ["torch", "nnunetv2"]}


def main(argv: Sequence[str] | None = None) -> int:
    """-> the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perf.time_to_quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data", help="folder of the public data sets")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trainings, the record and the plot")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS), help="in this order; default: all")
    parser.add_argument("--budgets", nargs="+", type=float, default=[5, 10, 20, 40], help="CPU-minutes")
    parser.add_argument("--python", nargs="+", default=[], metavar="NAME=PATH", help="interpreters of other tools")
    flags = parser.parse_args(argv)
    if bad := [word for word in flags.python if "=" not in word]:
        parser.error(f"--python {bad[0]} is not understood; expected NAME=PATH ...")
    pythons = dict(word.split("=", 1) for word in flags.python)
    try:
        for name in flags.tools:
            tools.check(TOOLS[name], pythons)
        task = write_task(flags.data, flags.output / "task")
        compare(task, flags.output, flags.tools, flags.budgets, pythons)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def compare(task: Task, output: Path, names: Sequence[str], budgets: Sequence[float], pythons: dict[str, str]) -> None:
    """Measures what the record in `output` lacks, budget after budget, and prints the table."""
    path = output / FILE
    record = json.loads(path.read_text()) if path.exists() else {"task": describe(task), "tools": {}}
    for minutes in budgets:
        for name in names:
            of_tool = record["tools"].setdefault(name, {"title": TOOLS[name].title, "runs": {}})
            if "cost" not in of_tool:
                of_tool["versions"] = versions(TOOLS[name].environment, pythons)
                of_tool["cost"] = tools.measure(TOOLS[name], task, output / name / "measure", pythons)._asdict()
                save(path, record)
            if f"{minutes:g}" not in of_tool["runs"]:
                of_tool["runs"][f"{minutes:g}"] = measure(task, output, name, minutes, cost_of(of_tool), pythons)
                save(path, record)
                print(f"{name}, {minutes:g} minutes: {json.dumps(of_tool['runs'][f'{minutes:g}'])}", flush=True)
    print(table(record))
    plot.draw(record, [output / f"time_to_quality.{end}" for end in ("png", "svg")])


def cost_of(of_tool: dict) -> Cost:
    """That of the tool's longest training so far; before the first, of the short one."""
    if not of_tool["runs"]:
        return Cost(**of_tool["cost"])
    run = max(of_tool["runs"].values(), key=lambda run: run["steps"])
    return Cost.of(60 * run["cpu_minutes"], run["step_cpu_seconds"], run["steps"])


def measure(task: Task, output: Path, name: str, minutes: float, cost: Cost, pythons: dict[str, str]) -> dict:
    """One training within a budget, its masks and their scores."""
    tool, folder = TOOLS[name], output / name / f"{minutes:g}"
    seconds, step, report = tools.train(tool, task, folder, cost.steps(minutes), pythons)
    masks, prediction_seconds = tools.predict(tool, task, folder, pythons)
    spent = {"cpu_minutes": seconds / 60, "step_cpu_seconds": step, "prediction_cpu_seconds": prediction_seconds}
    return {**report, **spent, **task.score(masks)}


def describe(task: Task) -> dict:
    """What was done, for the record."""
    files = json.loads((task.folder / "task.json").read_text())
    text = f"Lucchi, {LABELLED} labelled slices; CPU time of the whole training command"
    return {"text": text, **files, "machine": machine()}


def versions(environment: str, pythons: dict[str, str]) -> dict[str, str]:
    if not environment:
        return {}  # in task.machine
    code = VERSIONS % PACKAGES[environment]
    output = subprocess.run([pythons[environment], "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output)


def save(path: Path, record: dict) -> None:
    write_text(path, json.dumps(record, indent=1) + "\n")


def table(record: dict) -> str:
    """A row per tool and budget."""
    columns = ["tool", "budget, CPU-minutes", "used", "steps", "CPU s per step", "JAC, %"]
    rows = [
        [tool["title"], minutes, f"{run['cpu_minutes']:.1f}", str(run["steps"]), f"{run['step_cpu_seconds']:.2f}"]
        + [f"{100 * run['jac']:.1f}"]
        for tool in record["tools"].values()
        for minutes, run in tool["runs"].items()
    ]
    return markdown_table(columns, rows)


if __name__ == "__main__":
    sys.exit(main())
