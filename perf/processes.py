"""Python in a process of its own: its output, time and peak memory."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Finished(NamedTuple):
    output: str
    seconds: float
    peak_mib: float


def run_python(code: str, environment: Mapping[str, str] | None = None) -> Finished:
    """Runs `code`; raises CalledProcessError with its error output shown if it fails."""
    report = "from perf.processes import peak_mib as _p; print(_p())"
    start = time.perf_counter()
    output = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    *lines, peak = output.splitlines()
    return Finished("\n".join(lines), time.perf_counter() - start, float(peak))


def seconds_until(command: Sequence[str], beginning: str, environment: Mapping[str, str]) -> float:
    """Starts a program and ends it once it prints a line that begins so; -> the seconds until then."""
    start = time.perf_counter()
    environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as p:
        lines = []
        for line in p.stdout:
            lines.append(line)
            if line.startswith(beginning):
                seconds = time.perf_counter() - start
                p.kill()
                return seconds
    raise RuntimeError(f"{' '.join(command)} ended without a line {beginning!r}:\n{''.join(lines)}")


def peak_mib() -> float:
    """Of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
