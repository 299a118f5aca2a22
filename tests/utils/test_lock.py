"""One writer a folder and an output: who is refused, and what a killed one leaves."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest

from dualrel_jax.errors import InputError
from dualrel_jax.utils import lock

HOLD = """
import sys, time
from dualrel_jax.utils import lock
with lock.folder_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder `tmp_path / "run"`, and is ended at last."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def without_flock(monkeypatch):
    monkeypatch.setattr(lock, "_flock", lambda file: None)


def write_record(folder, **fields):
    folder.mkdir(exist_ok=True)
    record = {"pid": 4242, "host": platform.node(), "started": "1", **fields}
    (folder / ".lock").write_text(json.dumps(record))


def take(folder):
    with lock.folder_writer(folder):
        return True


@pytest.mark.parametrize("flock", [True, False])
def test_a_second_process_is_refused_and_a_killed_one_does_not_block(holder, tmp_path, flock, monkeypatch):
    if not flock:
        monkeypatch.setattr(lock, "_flock", lambda file: None)
    said = rf"{tmp_path / 'run'} is being written .*process {holder.pid} on {platform.node()}.*--workdir\.$"
    with pytest.raises(InputError, match=said):
        take(tmp_path / "run")
    part = tmp_path / "run" / f"config.json.{holder.pid}.part"
    part.touch()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert take(tmp_path / "run")
    assert not any((tmp_path / "run").iterdir())  # neither the lock, nor what was half written


def test_another_process_is_waited_for(holder, tmp_path):
    threading.Timer(0.3, holder.kill).start()
    with lock.folder_writer(tmp_path / "run", wait_s=20):
        pass


def test_a_thread_may_take_its_lock_again_and_another_thread_may_not(tmp_path):
    refused = []

    def try_it():
        try:
            take(tmp_path)
        except InputError as error:
            refused.append(str(error))

    with lock.folder_writer(tmp_path):
        with lock.folder_writer(tmp_path):
            pass
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(refused) == 1 and str(os.getpid()) in refused[0]
    assert take(tmp_path)


@pytest.mark.parametrize("flock", [True, False])
def test_on_another_host_the_file_must_be_touched(tmp_path, flock, monkeypatch):
    """As on a network file system that knows no locks of other hosts."""
    if not flock:
        monkeypatch.setattr(lock, "_flock", lambda file: None)
    write_record(tmp_path, host="node7")
    with pytest.raises(InputError, match=rf"process 4242 on node7.*delete {tmp_path / '.lock'}, or wait 2 minutes"):
        take(tmp_path)
    old = time.time() - lock.STALE_S - 5
    os.utime(tmp_path / ".lock", (old, old))
    assert take(tmp_path)


def test_a_later_process_of_the_same_number_is_another(tmp_path, without_flock):
    write_record(tmp_path, pid=os.getppid(), started="1")
    assert take(tmp_path)
    write_record(tmp_path, pid=os.getppid(), started=lock._started(os.getppid()))
    with pytest.raises(InputError, match="is being written"):
        take(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_record_does_not_block(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    assert take(tmp_path)


def test_of_many_at_once_one_has_it(tmp_path):
    program = HOLD.replace("time.sleep(60)", "time.sleep(float(sys.argv[2]))")
    command = [sys.executable, "-c", program, str(tmp_path), "1.5"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(5)]
    outputs = [process.communicate() for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1, 1, 1], outputs


def test_an_output_is_held_with_what_bears_its_name(tmp_path):
    def try_it(name, refused):
        try:
            with lock.file_writer(tmp_path / "out" / name, "--config.predict.output"):
                pass
        except InputError as error:
            refused.append(str(error))

    refused = []
    with lock.file_writer(tmp_path / "out" / "mask.tif", "--config.predict.output"):
        for name in ("mask.tif", "mask.zarr", "other.tif"):  # mask.zarr would write the same mask.json
            thread = threading.Thread(target=try_it, args=(name, refused))
            thread.start()
            thread.join()
    assert len(refused) == 2 and all("--config.predict.output" in sentence for sentence in refused)
    assert not (tmp_path / "out").exists()  # nothing was written there
