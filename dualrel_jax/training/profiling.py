"""Where the time of a training step goes: writes a trace of some steps, and reads it back as a table.

  dualrel --config configs/dualrel.py:phantom --workdir runs/demo --config.profile.num_steps=5
  python -m dualrel_jax.training.profiling runs/demo/profile

The same folder opens in xprof (`xprof runs/demo/profile`), and its *.trace.json.gz in ui.perfetto.dev.
"""

import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from dualrel_jax.errors import InputError
from dualrel_jax.training import hlo
from dualrel_jax.training.memory import CompiledStep
from dualrel_jax.utils import sharding
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.text import quoted

PROGRAM = "step.hlo.txt"  # the compiled step, beside the traces
STEP = "train_step"  # name of a step's event
CONTROL_FLOW = ("while", "call", "conditional")  # operations that run while those inside them do
NO_SCOPE, OTHER, NOTHING = ("(no scope)",), ("(not of this step)",), ("(nothing runs)",)
TPU, TPU_OPERATIONS = "/device:TPU:", "XLA Ops"  # how a plane of a trace begins, and its line of operations
LIBRARY = "(kernels of libraries in CUDA graphs)"  # of the step, but nothing says of which operation


def profiled(step_fn: CompiledStep, config: ConfigDict, workdir: Path, done: int) -> Callable[..., Any]:
    """The step, which writes a trace of the steps that `config.profile` names to `workdir`/profile.

    `done` steps lie behind: past the first of those, nothing is written. InputError if the training ends before the
    profile does.
    """
    first, last = config.profile.start_step, config.profile.start_step + config.profile.num_steps - 1
    if config.profile.num_steps == 0 or done >= first:
        return step_fn
    if not 1 <= first <= last <= config.train.steps:
        raise InputError(
            f"config.profile.start_step and num_steps name the steps {first} to {last}; expected steps from 1 to "
            f"{config.train.steps} (config.train.steps): lower one of them."
        )
    folder = workdir / "profile"
    # Names are no part of the cache's key, so that a program from there may carry those of older code.
    jax.config.update("jax_compilation_cache_include_metadata_in_key", True)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    steps = itertools.count(done + 1)

    def step_and_trace(*args):
        step = next(steps)
        if step == first:
            jax.block_until_ready(args)  # or the trace would hold the steps before it, too
            jax.profiler.start_trace(folder, profiler_options=options)
        with jax.profiler.StepTraceAnnotation(STEP, step_num=step):
            outputs = step_fn(*args)
        if step == last:
            jax.block_until_ready(outputs)
            jax.profiler.stop_trace()
            if sharding.is_first_host():
                write_text(folder / PROGRAM, step_fn.compiled.as_text())
            print(f"Profile of steps {first} to {last}: python -m dualrel_jax.training.profiling {quoted(folder)}")
        return outputs

    return step_and_trace


@dataclass
class Profile:
    """Times of one step, a mean over steps and devices.

    Attributes:
      program: what ran.
      step_ms: from the first operation to the last.
      operation_ms: of each operation of the program that ran, by name; where several do at once, they share the time.
      other_ms: of whatever else ran, such as a validation between two steps.
    """

    program: hlo.Program
    step_ms: float
    operation_ms: dict[str, float]
    other_ms: float


def read(folder: Path) -> Profile:
    """The newest trace in `folder`; InputError if there is none, or none of a training step."""
    newest = max(folder.glob("plugins/profile/*"), default=folder)
    traces = list(newest.glob("*.xplane.pb"))  # one a host
    if not traces or not (folder / PROGRAM).is_file():
        raise InputError(
            f"{folder} holds no profile; expected the folder `profile` of a run trained with "
            "--config.profile.num_steps=5 (or more)."
        )
    program = hlo.parse((folder / PROGRAM).read_text())
    kernels = {re.sub(r"[.-]", "_", name): name for name in program.operations}
    program.operations[LIBRARY] = hlo.Operation("custom-call", "", [], (LIBRARY,))
    containers = {name for name, operation in program.operations.items() if operation.opcode in CONTROL_FLOW}
    busy, spans, num_steps = Counter(), [], 0
    for trace in traces:
        planes = list(jax.profiler.ProfileData.from_file(str(trace)).planes)
        num_steps += sum(event.name == STEP for plane in planes for line in plane.lines for event in line.events)
        for plane in planes:
            events = list(_operations(plane, program, kernels))
            if events:
                spans.append(max(end for _, end, _ in events) - min(start for start, _, _ in events))
                busy.update(share(events, containers))
    if not spans or not num_steps:
        raise InputError(f"{newest} holds no operation of a training step; write the profile again.")
    scale = 1e-6 / (num_steps / len(traces) * len(spans))  # ns of all devices and steps to ms of one
    times = {name: scale * time for name, time in busy.items()}
    return Profile(program, scale * sum(spans), times, times.pop("", 0.0))


def _operations(plane, program: hlo.Program, kernels: Mapping[str, str]) -> Iterator[tuple[float, float, str]]:
    """(start, end, name), ns, of what ran on a device; the name is empty for what is not of this program.

    On a GPU most of a step runs as CUDA graphs, which do not name their operations. Kernels that the compiler wrote are
    called as their operation is, with underscores: `kernels`, kernel -> operation. On a TPU the name of an event is the
    text of its operation, `%fusion.1 = ...`.
    """
    if plane.name.startswith(TPU):
        for event in itertools.chain.from_iterable(line.events for line in plane.lines if line.name == TPU_OPERATIONS):
            if event.duration_ns > 0:
                name = re.match(r"%?([^ =]*)", event.name)[1]
                known = name if name in program.operations else ""
                yield event.start_ns, event.start_ns + event.duration_ns, known
        return
    for line in plane.lines:
        for event in line.events:
            if event.duration_ns > 0:
                stats = dict(event.stats)
                if "hlo_op" in stats:
                    name = stats["hlo_op"]
                    if stats["hlo_module"] != program.name:
                        name = ""
                    elif name not in program.operations:
                        name = kernels.get(event.name, LIBRARY)
                    yield event.start_ns, event.start_ns + event.duration_ns, name


def share(events: Iterable[tuple[float, float, str]], containers: set[str]) -> Counter:
    """Time of each name, of (start, end, name): every moment is shared by those running then.

    Names in `containers` (loops, calls) have only the moments when nothing else runs. The sum is thus the time in
    which anything ran, however many threads worked on it.
    """
    edges = sorted(edge for start, end, name in events for edge in ((start, 1, name), (end, -1, name)))
    times, running, before = Counter(), Counter(), 0.0
    for now, change, name in edges:
        active = [other for other in running if other not in containers] or list(running)
        for other in active:
            times[other] += (now - before) / len(active)
        before = now
        running[name] += change
        if not running[name]:
            del running[name]
    return times


def table(profile: Profile, depth: int = 4, least: float = 0.01, heaviest: int = 10) -> str:
    """The step by scope, down to `depth` levels and to the share `least` of the step, and its heaviest operations."""
    times: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])  # scope -> [forward, backward]
    for name, ms in profile.operation_ms.items():
        operation = profile.program.operations[name]
        path = operation.path[:depth] or NO_SCOPE
        for level in range(1, len(path) + 1):
            times[path[:level]][operation.backward] += ms
    times[OTHER][0] = profile.other_ms
    times[NOTHING][0] = profile.step_ms - sum(profile.operation_ms.values()) - profile.other_ms

    percent = 100 / profile.step_ms
    lines = [f"One step takes {profile.step_ms:.1f} ms.", "", "   ms/step      %   forward  backward  scope"]

    def rows(parent: tuple[str, ...], indent: str) -> None:
        children = [path for path in times if path[:-1] == parent]
        for path in sorted(children, key=lambda path: (path[0].startswith("("), -sum(times[path]))):
            if sum(times[path]) < least * profile.step_ms:
                continue
            while len(inner := [p for p in times if p[:-1] == path]) == 1 and times[inner[0]] == times[path]:
                path = inner[0]
            forward, backward = times[path]
            ms, label = forward + backward, "/".join(path[len(parent) :])
            lines.append(f"{ms:10.1f} {percent * ms:6.1f} {forward:9.1f} {backward:9.1f}  {indent}{label}")
            rows(path, indent + "  ")

    rows((), "")
    lines += ["", f"The {heaviest} heaviest operations", "", "   ms/step      %  operation"]
    for name, ms in Counter(profile.operation_ms).most_common(heaviest):
        operation = profile.program.operations[name]
        shape, path = operation.shape.partition("{")[0], "/".join(operation.path or NO_SCOPE)
        backward = ", backward" if operation.backward else ""
        lines.append(f"{ms:10.1f} {percent * ms:6.1f}  {name}  {shape}  {path}{backward}")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """python -m dualrel_jax.training.profiling FOLDER; -> the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 1 or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if argv else 2
    try:
        print(table(read(Path(argv[0]))), end="")
    except InputError as error:
        print(f"profiling: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
