"""Tasks on a local cluster of two processes: results, failures, what listens, and a prediction."""

import contextlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference.cluster import check_cluster, open_cluster
from dualrel_jax.main import main


def double(number):
    if number == 3:
        raise InputError("3 is odd.")
    print("not seen")
    return 2 * number, os.getpid()


def listening():
    """Addresses on which this process and its children listen."""
    me = psutil.Process()
    return {
        connection.laddr.ip
        for process in (me, *me.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def test_two_processes_of_this_machine(untrained_run, tissue, tmp_path, capfd, monkeypatch):
    """One test: a cluster takes seconds to start."""
    with open_cluster("local:2") as tasks:
        assert listening() <= {"127.0.0.1", "::1"}
        results = {}
        with pytest.raises(InputError, match=r"1 task failed 3 times, .*\(3: 3 is odd\); the same command tries"):
            results.update(tasks(double, range(6)))
        assert {task: number for task, (number, _) in results.items()} == {task: 2 * task for task in (0, 1, 2, 4, 5)}
        assert os.getpid() not in {pid for _, pid in results.values()}
        predict = importlib.import_module("dualrel_jax.predict")
        monkeypatch.setattr(predict, "open_cluster", lambda text: contextlib.nullcontext(text and tasks))
        flags = [f"--workdir={untrained_run}", "--mode=predict", f"--config.predict.input={tissue}"]
        flags += ["--config.predict.task_slices=32", "--config.predict.threshold=0.78"]
        for name, more in (("one", []), ("two", ["--cluster=local:2"])):
            assert main([*flags, f"--config.predict.output={tmp_path}/{name}.zarr", *more]) == 0
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err and "not seen" not in printed.out
    for suffix, tolerance in (("", 0), ("_probability", 1)):
        one, two = (open_volume(tmp_path / f"{name}{suffix}.zarr", verbose=False)[:] for name in ("one", "two"))
        np.testing.assert_allclose(one.astype(int), two, atol=tolerance)
        assert 0.02 < (one > 0.78 * 255).mean() < 0.98


def test_without_a_cluster_no_dask_is_imported():
    code = "import sys, dualrel_jax.predict, dualrel_jax.inference.cluster as cluster\n"
    code += "with cluster.open_cluster('') as tasks:\n"
    code += "    print(dict(tasks(abs, [-1])), {'dask', 'distributed'} & {*sys.modules})"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split("\n")[0] == "{-1: 1} set()"


SETTINGS = "jobs: 2\ncores: 4\nmemory: 8GB\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (SETTINGS + "job_extra_directive: [--gres=gpu:1]", "job_extra_directive'.*did you mean job_extra_directives"),
        (SETTINGS + "processes: 4", "'processes', which is not known; expected some of jobs"),
        (SETTINGS + "walltime: 4:00:00", 'walltime = 14400; expected a text in quotes, such as walltime: "04:00:00"'),
        (SETTINGS + "job_extra_directives: --gres=gpu:1", "expected a list of texts"),
        ("jobs: 0\ncores: 4\nmemory: 8GB", "jobs = 0; expected a whole number above 0"),
        ("cores: 4\nmemory: 8GB", "lacks jobs; add a line such as jobs: 8"),
        ("- a", "holds no settings"),
        ("jobs: [", "is not YAML"),
        ("!!python/object/apply:os.system ['exit 3']", "is not YAML"),
    ],
)
def test_a_wrong_slurm_file_is_explained(tmp_path, content, problem):
    path = tmp_path / "slurm.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=problem):
        check_cluster(str(path))


@pytest.mark.parametrize("text", ["local", "local:0", "8786", "tcp://host", "local:-2", "gone.yaml"])
def test_a_wrong_cluster_is_explained(text):
    with pytest.raises(InputError, match="--cluster"):
        check_cluster(text)


def test_a_scheduler_that_does_not_answer_is_explained(monkeypatch):
    monkeypatch.setattr("dualrel_jax.inference.cluster._CONNECT_S", 1)
    with pytest.raises(InputError, match="no scheduler answers.*dask scheduler"), open_cluster("tcp://127.0.0.1:9"):
        pass


def test_the_flag_goes_with_modes_that_have_tasks(untrained_run, capsys):
    assert main([f"--workdir={untrained_run}", "--mode=report", "--cluster=local:2"]) == 2
    assert "--cluster goes with --mode=predict" in capsys.readouterr().err
    assert main([f"--workdir={untrained_run}", "--mode=predict", "--cluster=local:2"]) == 2
    assert "--cluster needs --config.predict.input" in capsys.readouterr().err
    assert not list(Path(untrained_run, "prediction").glob("mask*"))
