"""Printing to closed pipes, closed files and terminals without the characters."""

import os
import subprocess
import sys

import pytest

PRINT = """
import sys
from dualrel_jax.utils import streams
streams.make_safe()
from tqdm import tqdm
for i in tqdm(range(3), mininterval=0):
    print("5 µm ± 2 × 8 → \\udc80 日", flush=True)
    print("5 µm", file=sys.stderr)
open(sys.argv[1], "w").write("worked to the end")
"""


def run(tmp_path, shell, **environment):
    (tmp_path / "program.py").write_text(PRINT, encoding="utf-8")
    command = shell.replace("PROGRAM", f"{sys.executable} {tmp_path / 'program.py'} {tmp_path / 'end'}")
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), **environment}
    result = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=60)
    assert b"Traceback" not in result.stderr and b"Error" not in result.stderr, result.stderr
    assert (tmp_path / "end").read_text() == "worked to the end"
    return result


@pytest.mark.parametrize(
    ("encoding", "line"),
    [("ascii", "5 um +- 2 x 8 -> ? ?"), ("cp932", "5 um ± 2 × 8 → ? 日"), ("utf-8", "5 µm ± 2 × 8 → ? 日")],
)
def test_what_a_terminal_lacks_is_written_alike(tmp_path, encoding, line):
    result = run(tmp_path, "PROGRAM", PYTHONIOENCODING=encoding)
    assert result.stdout.decode(encoding).splitlines() == [line] * 3


def test_the_c_locale(tmp_path):
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run(tmp_path, "PROGRAM", **environment).stdout.startswith(b"5 um +- 2 x 8 -> ? ?\n")


@pytest.mark.parametrize(
    "shell",
    [
        "PROGRAM | head -1; exit ${PIPESTATUS[0]}",
        "PROGRAM 2>&1 | true; exit ${PIPESTATUS[0]}",
        "PROGRAM >&-",
        "PROGRAM >&- 2>&-",
        "PROGRAM <&- >&- 2>&-",
        "PROGRAM > /dev/full",
    ],
)
def test_work_goes_on_when_nobody_reads(tmp_path, shell):
    assert run(tmp_path, shell).returncode == 0
