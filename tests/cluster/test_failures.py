"""What is killed, stopped or damaged while a volume is predicted in tasks: the same command completes it."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from ports import free_port
from scipy import ndimage

from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer

pytestmark = pytest.mark.slow

BOXES = 16


class Command:
    """`dualrel --mode=predict` on the long volume, in a process group of its own."""

    def __init__(self, run, volume, output, cluster="", environment=None):
        flags = [f"--workdir={run}", "--mode=predict", f"--config.predict.input={volume}"]
        flags += [f"--config.predict.output={output}", "--config.predict.task_slices=32"]
        flags += ["--config.predict.intensity_range=0,255", "--config.predict.threshold=0.78"]
        flags += [f"--cluster={cluster}"] if cluster else []
        self.output, self.tasks = output, output.with_name(f"{output.name}.tasks.jsonl")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dualrel_jax.main", *flags],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def boxes_done(self):
        return self.tasks.read_text().count('"box"') if self.tasks.exists() else 0

    def wait_for_tasks(self):
        """Until they are handed out: by then this process has looked at samples of all chunks."""
        self._wait(self.tasks.exists)

    def wait_for(self, boxes):
        self._wait(lambda: self.boxes_done() >= boxes)

    def wait_for_another(self, worker):
        """Until the cluster has one in the place of a `worker` that was killed."""
        self._wait(lambda: len(self.workers()) == 3 and worker not in self.workers())

    def _wait(self, condition):
        end = time.monotonic() + 300
        while not condition():
            assert self.process.poll() is None, self.process.stdout.read()
            assert time.monotonic() < end, "five minutes passed"
            time.sleep(0.02)

    def workers(self):
        """Processes that hold a part of the cluster."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def end(self):
        """-> exit code, output."""
        printed = self.process.communicate(timeout=900)[0]
        return self.process.returncode, printed


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "em.zarr"
    field = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(32 * BOXES // 2, 64, 320)), 2)
    array = (128 + 900 * field).clip(0, 255).astype(np.uint8)
    with open_writer(path, array.shape, array.dtype, (20.0, 8.0, 8.0)) as writer:
        for z, slice_yx in enumerate(array):
            writer.write(z, slice_yx)
    return path


@pytest.fixture(scope="module")
def expected(untrained_run, volume, tmp_path_factory):
    """Mask and probability of one process, on one core like a worker."""
    output = tmp_path_factory.mktemp("one") / "mask.zarr"
    command = Command(untrained_run, volume, output)
    os.sched_setaffinity(command.process.pid, {min(os.sched_getaffinity(0))})
    code, printed = command.end()
    assert code == 0, printed
    return arrays(output)


@contextlib.contextmanager
def unanswered_chunk(volume):
    """Who reads the second last layer of chunks waits as long as this lasts: no command ends before it is killed."""
    chunk = volume / "0" / "c" / "6" / "0" / "0"
    aside = chunk.with_name("aside")
    chunk.rename(aside)
    os.mkfifo(chunk)
    try:
        yield
    finally:
        aside.replace(chunk)


def arrays(output):
    paths = (output, output.with_name("mask_probability.zarr"))
    return [open_volume(path, verbose=False)[:] for path in paths]


def assert_same(output, expected):
    for array, other in zip(arrays(output), expected, strict=True):
        np.testing.assert_array_equal(array, other)


def test_a_worker_and_then_the_client_are_killed(untrained_run, volume, expected, tmp_path):
    output = tmp_path / "mask.zarr"
    command = Command(untrained_run, volume, output, "local:3")
    command.wait_for_tasks()
    with unanswered_chunk(volume):
        command.wait_for(1)
        workers = command.workers()
        assert len(workers) == 3
        workers[0].kill()
        command.wait_for_another(workers[0])  # and for no further box: all may queue behind the chunk without an answer
        workers = command.workers()
        command.process.kill()
        command.process.wait()
        alive = psutil.wait_procs(workers, timeout=60)[1]
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in alive)
    done = command.boxes_done()
    assert 1 <= done < BOXES and not output.exists()
    again = Command(untrained_run, volume, output, "local:3")
    code, printed = again.end()
    assert code == 0, printed
    assert "continues where it was stopped" in printed and "Traceback" not in printed
    assert_same(output, expected)
    assert not command.tasks.exists()


def test_a_box_that_cannot_be_read_is_named_and_the_others_finish(untrained_run, volume, expected, tmp_path):
    chunk = volume / "0" / "c" / "7" / "0" / "0"
    whole = chunk.read_bytes()
    output = tmp_path / "mask.zarr"
    try:
        command = Command(untrained_run, volume, output, "local:2")
        command.wait_for_tasks()
        chunk.write_bytes(b"damaged")
        code, printed = command.end()
        assert code == 2
        assert "box 224:256,0:64,0:256 failed 3 times" in printed and "slice 224 cannot be read" in printed
        assert "the same command tries" in printed and "Traceback" not in printed
        # Neighbours fail too, whose averages along z and borders need the damaged chunk.
        assert BOXES > command.boxes_done() > BOXES - 6 and not output.exists()
    finally:
        chunk.write_bytes(whole)
    code, printed = Command(untrained_run, volume, output, "local:2").end()
    assert code == 0, printed
    assert_same(output, expected)


def test_ctrl_c_ends_with_a_sentence(untrained_run, volume, expected, tmp_path):
    output = tmp_path / "mask.zarr"
    command = Command(untrained_run, volume, output, "local:2")
    command.wait_for_tasks()
    with unanswered_chunk(volume):
        command.wait_for(2)
        workers = command.workers()
        os.killpg(command.process.pid, signal.SIGINT)
        code, printed = command.end()
    assert code == 130
    assert "dualrel: Stopped at slice" in printed and "the same command continues." in printed
    assert "Traceback" not in printed
    assert not any(worker.is_running() for worker in psutil.wait_procs(workers, timeout=30)[1])
    assert Command(untrained_run, volume, output, "local:2").end()[0] == 0
    assert_same(output, expected)


def _answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Scheduler:
    """A Dask scheduler with a worker, as a lab runs them."""

    def __init__(self, port):
        host = ["--host", "127.0.0.1", "--no-dashboard"]
        self.processes = [self._start("scheduler", *host, "--port", str(port))]
        address = f"tcp://127.0.0.1:{port}"
        while not _answers(port):
            assert self.processes[0].poll() is None
            time.sleep(0.1)
        self.processes.append(self._start("worker", address, *host, "--nthreads", "1", "--no-nanny"))

    def _start(self, *words):
        code = f"from distributed.cli.dask_{words[0]} import main; main()"
        return subprocess.Popen([sys.executable, "-c", code, *words[1:]], stderr=subprocess.DEVNULL)

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


def test_a_scheduler_that_is_killed_and_another(untrained_run, volume, expected, tmp_path):
    output, port = tmp_path / "mask.zarr", free_port()
    scheduler = Scheduler(port)
    try:
        command = Command(untrained_run, volume, output, f"tcp://127.0.0.1:{port}")
        command.wait_for_tasks()
        with unanswered_chunk(volume):
            command.wait_for(2)
            scheduler.kill()
            code, printed = command.end()
        assert code == 2
        assert "the scheduler is gone; the same command continues" in printed and "Traceback" not in printed
        port = free_port()
        scheduler = Scheduler(port)
        code, printed = Command(untrained_run, volume, output, f"tcp://127.0.0.1:{port}").end()
        assert code == 0, printed
    finally:
        scheduler.kill()
    assert_same(output, expected)


SBATCH = """#!/bin/sh
cp "$1" {folder}/job_$$.sh
sh "$1" >{folder}/job_$$.log 2>&1 &
echo "Submitted batch job $!"
"""


def test_slurm_jobs(untrained_run, volume, expected, tmp_path):
    """With a stand-in for sbatch and scancel."""
    (tmp_path / "bin").mkdir()
    for name, content in (("sbatch", SBATCH.format(folder=tmp_path)), ("scancel", '#!/bin/sh\nkill "$1"\n')):
        program = tmp_path / "bin" / name
        program.write_text(content)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    settings = tmp_path / "slurm.yaml"
    settings.write_text(
        f"jobs: 2\ncores: 4\nmemory: 8GB\nqueue: gpu\nwalltime: '04:00:00'\njob_extra_directives: ['--gres=gpu:1']\n"
        f"job_script_prologue: ['export JOBS=1']\nshared_temp_directory: {tmp_path}\ninterface: lo\n"
    )
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    output = tmp_path / "mask.zarr"
    code, printed = Command(untrained_run, volume, output, str(settings), environment).end()
    assert code == 0, printed
    assert "2 Slurm jobs are asked for" in printed and "Traceback" not in printed
    assert_same(output, expected)
    scripts = [path.read_text() for path in tmp_path.glob("job_*.sh")]
    assert len(scripts) == 2
    for line in ("#SBATCH -p gpu", "#SBATCH --gres=gpu:1", "#SBATCH --cpus-per-task=4", "export JOBS=1"):
        assert line in scripts[0]
    assert not list(tmp_path.glob(".d*"))  # keys


def test_slurm_that_refuses_is_explained(untrained_run, volume, tmp_path):
    (tmp_path / "bin").mkdir()
    program = Path(tmp_path / "bin" / "sbatch")
    program.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    settings = tmp_path / "slurm.yaml"
    settings.write_text(
        f"jobs: 2\ncores: 4\nmemory: 8GB\nqueue: gpu\ninterface: lo\nshared_temp_directory: {tmp_path}\n"
    )
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = Command(untrained_run, volume, tmp_path / "mask.zarr", str(settings), environment)
    code, printed = command.end()
    assert code == 2 and "Traceback" not in printed
    assert "Slurm does not take the jobs (sbatch: error: invalid partition" in printed


def test_instances_on_a_cluster_are_those_of_one_process(untrained_run, tmp_path):
    field = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(96, 96, 160)), 4)
    array = (128 + 4000 * field).clip(0, 255).astype(np.uint8)
    probability = tmp_path / "probability.zarr"
    with open_writer(probability, array.shape, array.dtype, (20.0, 20.0, 20.0)) as writer:
        for z, slice_yx in enumerate(array):
            writer.write(z, slice_yx)
    tables = []
    for name, more in (("one", []), ("two", ["--config.instances.box_px=64", "--cluster=local:2"])):
        flags = [f"--workdir={untrained_run}", "--mode=instances", f"--config.instances.input={probability}"]
        flags += [f"--config.instances.output={tmp_path / name}.zarr", *more]
        command = [sys.executable, "-m", "dualrel_jax.main", *flags]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr
        tables.append((tmp_path / f"{name}.csv").read_text())
    assert tables[0].count("\n") > 5
    one, two = (open_volume(tmp_path / f"{name}.zarr", verbose=False)[:] for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)
