"""What a training reports: scalars to JSON lines and TensorBoard, and its progress on the screen."""

import functools
import io
import json
import math
import sys
import time
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_records
from dualrel_jax.utils.sharding import is_first_host

_LEFT = ", {remaining} left"


class MetricLogger:
    """Appends records {"step": n, name: value, ...} to `metrics.jsonl` and TensorBoard; the first host only.

    Records of steps after `start_step` are of an interrupted run that will be repeated, so they are removed.
    """

    def __init__(self, workdir: Path, start_step: int):
        self.path = workdir / "metrics.jsonl"
        self._start_step = start_step
        self._active = is_first_host()
        if self._active:
            records = [record for record in read_records(self.path) if record["step"] <= start_step]
            write_text(self.path, "".join(json.dumps(record) + "\n" for record in records))

    @functools.cached_property
    def _tensorboard(self):
        # Opened by the first record: the import takes seconds (it looks for PyTorch), and no step shall wait for it.
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=self._start_step + 1)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends a record of `scalars`, without those that are not finite, for which JSON has no number."""
        if not self._active:
            return
        record = {"step": step, **{name: float(value) for name, value in scalars.items() if math.isfinite(value)}}
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if name != "step":
                self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        if self._active:
            self._tensorboard.close()


class StepTimer:
    """Seconds per training step, on the clock and of this process on all cores; what lies between a `lap` and the next
    `start` is not counted."""

    def __init__(self, step: int):
        self.start(step)

    def start(self, step: int) -> None:
        self._step, self._time, self._cpu = step, time.perf_counter(), time.process_time()

    def lap(self, step: int) -> dict[str, float]:
        """`seconds_per_step` and `cpu_seconds_per_step` since the last lap or start, at a step whose result is here."""
        now, cpu, steps = time.perf_counter(), time.process_time(), step - self._step
        seconds = {"seconds_per_step": (now - self._time) / steps, "cpu_seconds_per_step": (cpu - self._cpu) / steps}
        self._step, self._time, self._cpu = step, now, cpu
        return seconds


class TrainingProgress:
    """Steps done, the loss and the time left: a bar on a terminal, lines elsewhere; the first host only."""

    def __init__(self, steps: int, every_s: float = 5.0):
        self._steps, self._every_s = steps, every_s
        self._bar: tqdm | None = None

    def update(self, step: int, text: str) -> None:
        """Shows `text` at most every `every_s` seconds, and at the last step."""
        if self._bar is None:  # its clock starts here: what lies before the first update went into compiling
            self._bar = self._start(step, text)
        if step == self._steps and not self._bar.disable:  # which it may not know: no time passed since its start
            self._bar.bar_format = self._bar.bar_format.removesuffix(_LEFT)
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(step - self._bar.n)
        if step == self._steps:
            self._bar.close()

    def write(self, step: int, text: str) -> None:
        """A line of its own, above the bar if there is one."""
        if is_first_host():
            tqdm.write(f"step {step}/{self._steps}: {text}", file=sys.stdout)
            sys.stdout.flush()

    def close(self) -> None:
        """Ends the bar, or prints its last line."""
        if self._bar is not None:
            self._bar.close()

    def _start(self, step: int, text: str) -> tqdm:
        on_terminal = sys.stdout.isatty()
        bar, left = " {bar}" if on_terminal else ":", "" if step == self._steps else _LEFT
        return tqdm(
            desc=text,
            total=self._steps,
            initial=step,
            mininterval=self._every_s,
            file=sys.stdout if on_terminal else _Lines(sys.stdout),
            bar_format=f"step {{n_fmt}}/{{total_fmt}}{bar} {{desc}}{left}",
            dynamic_ncols=on_terminal,
            disable=not is_first_host(),
        )


class _Lines(io.TextIOBase):
    """A line for each state that a bar would draw over the last one."""

    def __init__(self, stream: TextIO):
        self._stream, self._last = stream, ""

    def write(self, text: str) -> int:
        line = text.strip()
        if line and line != self._last:
            print(line, file=self._stream, flush=True)
            self._last = line
        return len(text)
