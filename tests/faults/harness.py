"""Commands in processes that are killed at random moments, each started in no time by a fork of a prepared one."""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

LITTER = (".part", ".lock", "-tmp", ".progress.json", ".views", "__lock")
_PREPARED = ["dualrel_jax.main", "dualrel_jax.train", "dualrel_jax.predict", "dualrel_jax.segment_instances"]
_PREPARED += ["dualrel_jax.benchmark.__main__", "matplotlib.figure", "matplotlib.backends.backend_agg", "tensorstore"]
_PREPARED += ["tensorboardX", "cc3d", "skimage.segmentation", "orbax.checkpoint"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PREPARED)


class Command:
    """A command line that runs in a process of its own, its output in `log`."""

    def __init__(self, argv: list[str], log: Path, program: str = "dualrel_jax.main"):
        self.log = log
        self._process = _context.Process(target=_run, args=(argv, str(log), program))
        self._process.start()

    def kill_after(self, seconds: float) -> bool:
        """Kills the process unless it ends before; -> whether it was killed."""
        self._process.join(seconds)
        if self._process.exitcode is not None:
            return False
        self._process.kill()
        self._process.join()
        return True

    def wait(self) -> int:
        """-> the exit code."""
        self._process.join()
        return self._process.exitcode

    def output(self) -> str:
        return self.log.read_text(errors="replace")


def _run(argv: list[str], log: str, program: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)
    from dualrel_jax.data.io import ome_zarr

    ome_zarr.CHUNK = (4, 16, 16)  # a small volume has many blocks
    try:
        import importlib

        code = importlib.import_module(program).main(argv)
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    os._exit(code)


def run(argv: list[str], log: Path, program: str = "dualrel_jax.main") -> float:
    """Runs a command to its end, which must be a success; -> seconds."""
    began = time.monotonic()
    command = Command(argv, log, program)
    assert command.wait() == 0, command.output()
    return time.monotonic() - began


def kill_and_continue(
    argv: list[str], log: Path, moments: list[float], check: Callable[[], None], program: str = "dualrel_jax.main"
) -> int:
    """Starts a command once per moment, in seconds, and kills it then; at last lets it end; -> how often it was killed.

    Where it ends before its moment comes, `check` looks at what it made; it does so at the end too.
    """
    killed = 0
    for moment in moments:
        command = Command(argv, log, program)
        if command.kill_after(moment):
            killed += 1
        else:
            assert command.wait() == 0, command.output()
            check()
    run(argv, log, program)
    check()
    assert "Traceback" not in log.read_text(errors="replace"), log.read_text(errors="replace")[-3000:]
    return killed


def litter(folder: Path) -> list[str]:
    """Files that only an unfinished command has."""
    return [str(path) for path in folder.rglob("*") if path.name.endswith(LITTER) or path.name == ".lock"]
