"""Many commands, a few at a time, each on a GPU or on CPU cores of its own. Does not import JAX."""

import functools
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualrel_jax.errors import InputError
from dualrel_jax.utils import interrupt


@dataclass(frozen=True)
class Slot:
    """Where a command runs: additions to its environment, and its CPU cores (None: any)."""

    environment: Mapping[str, str]
    cores: frozenset[int] | None = None


def make_slots(number: int, limit: int) -> list[Slot]:
    """One slot a GPU; on CPU one a core, pinned: two such processes do 1.5 times the work of one that has both cores.

    `number` above 0 sets another number; there are never more than `limit`. A TPU is one slot: it does not share.
    """
    backend, devices = _devices()
    if backend == "gpu":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(devices)]
        number = min(number or len(names), limit)
        share = -(-number // len(names))
        memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / share:.3f}"} if share > 1 else {}
        return [Slot({"CUDA_VISIBLE_DEVICES": names[i % len(names)], **memory}) for i in range(number)]
    if backend != "cpu":
        return [Slot({})]
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return [Slot({})] * min(number or os.cpu_count() or 1, limit)
    cores = sorted(os.sched_getaffinity(0))
    number = min(number or len(cores), limit)
    return [Slot({}, frozenset(cores[i::number] or cores)) for i in range(number)]


def _devices() -> tuple[str, int]:
    """(backend, number of devices), asked of JAX in a process that ends and frees them."""
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if process.returncode:
        raise InputError(f"JAX does not start on this machine: {process.stderr.strip().splitlines()[-1]}")
    backend, number = process.stdout.split()[-2:]
    return backend, int(number)


def run_all(
    commands: Mapping[Path, Sequence[str]], slots: Sequence[Slot]
) -> Iterator[tuple[Path, int, float, dict[Path, float]]]:
    """Runs each command, its output appended to the log that is its key; yields as they end.

    Close the iterator (`contextlib.closing`) to end those that still run.

    Yields:
        (log, exit code, seconds it took, log -> seconds so far of those that run)
    """
    waiting, free = deque(commands), list(reversed(slots))
    running: dict[Path, tuple[subprocess.Popen, Slot, float]] = {}
    try:
        while waiting or running:
            while waiting and free:
                log, slot = waiting.popleft(), free.pop()
                running[log] = _start(commands[log], log, slot), slot, time.monotonic()
            time.sleep(0.1)
            interrupt.check(interrupt.SAVE_S)  # the children save their states
            for log in [log for log, (process, _, _) in running.items() if process.poll() is not None]:
                process, slot, began = running.pop(log)
                free.append(slot)
                now = time.monotonic()
                yield log, process.returncode, now - began, {key: now - since for key, (_, _, since) in running.items()}
    finally:
        for process, _, _ in running.values():
            process.terminate()
        for process, _, _ in running.values():
            process.wait()


def _start(command: Sequence[str], log: Path, slot: Slot) -> subprocess.Popen:
    pin = functools.partial(os.sched_setaffinity, 0, slot.cores) if slot.cores else None
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env={**os.environ, **slot.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its children
            preexec_fn=pin,  # before JAX sizes its pool of threads
        )


def end_with_parent() -> None:
    """Called by a child: ends this process within a second of the end, even by SIGKILL, of the one that started it."""

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
