"""What a run tells: scalars to JSON lines and TensorBoard, and one line of progress on the screen."""

import functools
import json
import time
from pathlib import Path

from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_records
from dualrel_jax.utils.sharding import is_first_host
from dualrel_jax.utils.text import format_duration


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
        if not self._active:
            return
        record = {"step": step, **{name: float(value) for name, value in scalars.items()}}
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if name != "step":
                self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        if self._active:
            self._tensorboard.close()


class StepTimer:
    """Seconds a training step takes; what lies between a `lap` and the next `start` is not counted."""

    def __init__(self, step: int):
        self.start(step)

    def start(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def lap(self, step: int) -> float:
        """Seconds a step since the last lap or start, at a step whose result has arrived."""
        now = time.perf_counter()
        seconds = (now - self._time) / (step - self._step)
        self._step, self._time = step, now
        return seconds


class Progress:
    """Prints how far the training is, how it goes and how long it will still take; the first host only."""

    def __init__(self, steps: int, every_s: float = 5.0):
        self._steps, self._every_s = steps, every_s
        self._first: tuple[int, float] | None = None
        self._told_at = -every_s

    def update(self, step: int, text: str) -> None:
        """At most one line every `every_s` seconds, and one at the end."""
        now = time.monotonic()
        if self._first is None:  # The time before it went into compiling.
            self._first = (step, now)
        if now - self._told_at < self._every_s and step < self._steps:
            return
        self._told_at = now
        done, seconds = step - self._first[0], now - self._first[1]
        left = f", {format_duration(seconds / done * (self._steps - step))} left" if done and step < self._steps else ""
        self.tell(step, text + left)

    def tell(self, step: int, text: str) -> None:
        if is_first_host():
            print(f"step {step}/{self._steps}: {text}", flush=True)
