"""SIGINT and SIGTERM: a sentence, an exit code, nothing half written, whatever the command is doing."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys, time
from pathlib import Path
from dualrel_jax.utils import atomic, interrupt, lock, streams

folder = Path(sys.argv[1])

def asks():
    for step in range(1, 1000):
        interrupt.describe(f"Stopped at step {step}; the same command continues.", patience_s=5.0)
        print("working", flush=True)
        time.sleep(0.02)
        interrupt.check()

def compiles():  # for a minute no Python code runs in the main thread, as while XLA compiles
    import hashlib
    print("working", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)

def unwinds_for_ever():
    interrupt.describe("Stopped.", patience_s=5.0)
    try:
        asks()
    finally:
        time.sleep(60)

def ignores():
    interrupt.describe("Stopped.", patience_s=60.0)
    print("working", flush=True)
    while True:
        time.sleep(0.1)

def command():
    with lock.folder_writer(folder), atomic.replacing(folder / "a.json") as part:
        part.touch()
        print("at work", end=" ")
        globals()[sys.argv[2]]()

streams.make_safe()
sys.exit(interrupt.run_command(command, as_program=True))
"""


@pytest.fixture
def stop(tmp_path):
    """A function (what the program does, signals) -> (exit code, standard error, seconds to its end)."""

    def run(what, *signals):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), what]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(0.1)
        began = time.monotonic()
        for number in signals:
            process.send_signal(number)
            time.sleep(0.1)
        error = process.communicate(timeout=50)[1]
        assert not any(tmp_path.iterdir())  # no lock, no part
        return process.returncode, error, time.monotonic() - began

    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_stops_where_it_may(stop, number, code):
    got, error, seconds = stop("asks", number)
    assert got == code and seconds < 3
    assert error.startswith("dualrel: Stopped at step ") and error.endswith("; the same command continues.\n")
    assert len(error.splitlines()) == 1


def test_a_command_in_compiled_code_stops_as_well(stop):
    code, error, seconds = stop("compiles", signal.SIGINT)
    assert (code, error) == (130, "dualrel: Stopped; the same command starts again.\n")
    assert seconds < 5


@pytest.mark.parametrize("what", ["ignores", "unwinds_for_ever"])
def test_a_second_signal_ends_it_at_once(stop, what):
    code, error, seconds = stop(what, signal.SIGTERM, signal.SIGINT)
    assert code == 143 and seconds < 3
    assert error.startswith("dualrel: Stopped") and len(error.splitlines()) == 1


def test_an_ignored_signal_stays_ignored():
    code = "signal.raise_signal(signal.SIGINT); sys.exit(interrupt.requested())"
    setup = (
        "import signal, sys; from dualrel_jax.utils import interrupt\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    )
    assert subprocess.run([sys.executable, "-c", f"{setup}with interrupt.listening():\n    {code}"]).returncode == 0


def test_in_a_notebook_the_handlers_come_back():
    from dualrel_jax.utils import interrupt

    before = signal.getsignal(signal.SIGINT)
    assert interrupt.run_command(lambda: 7, as_program=False) == 7
    assert signal.getsignal(signal.SIGINT) is before
