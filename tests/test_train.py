"""Whole trainings: restarts, devices, hosts, and both pipelines."""

import json
import os
import signal
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
from ports import free_port
from states import last_state

from dualrel_jax import config as config_lib
from dualrel_jax.errors import InputError
from dualrel_jax.methods.supervised import Supervised
from dualrel_jax.train import train, train_and_evaluate
from dualrel_jax.training import schedules
from dualrel_jax.training.checkpoint import Checkpoints
from dualrel_jax.utils import sharding
from dualrel_jax.utils.jsonl import read_records

WITHOUT_TENSORFLOW = "import sys; sys.modules.update(tensorflow=None, tensorflow_datasets=None);"
MAIN = "from dualrel_jax.main import main; sys.exit(main(sys.argv[1:]))"


def command(config, workdir, *extra):
    """The command line of a training with this config, in a process where TensorFlow cannot be imported."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir.with_suffix(".py")
    path.write_text(
        "import json\nfrom ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict(json.loads({config.to_json_best_effort()!r}))\n"
    )
    code = f"{WITHOUT_TENSORFLOW} {MAIN}"
    return [sys.executable, "-c", code, f"--config={path}", f"--workdir={workdir}", "--mode=train", *extra]


def final_state(workdir, config):
    state = last_state(workdir, config)[1]
    return jax.tree.leaves(jax.device_get(state))


@pytest.mark.parametrize("method", ["dualrel", pytest.param("supervised", marks=pytest.mark.slow)])
def test_train_and_evaluate_writes_everything_and_learns(method, small_config, tmp_path):
    config = small_config(method)
    config.train.update({"steps": 60, "learning_rate": 5e-2, "eval_every_steps": 60, "checkpoint_every_steps": 60})
    scores = train_and_evaluate(config, tmp_path)
    assert scores["jac_pooled"] > 0.3  # chance is 0.15, the share of foreground
    written = json.loads((tmp_path / "metrics.json").read_text())
    for key in ("jac_pooled", "dsc_pooled", "jac_per_slice_mean", "dsc_per_slice_mean", "confusion_density"):
        assert 0 <= written[key] <= 1
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert {"curves.png", "masks.png", "validation_000060.png"} <= pictures
    assert ("prototypes.png" in pictures) == (method == "dualrel")
    assert len((tmp_path / "slices.csv").read_text().splitlines()) == 1 + written["slices"]
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["versions"]["jax"] == jax.__version__
    records = read_records(tmp_path / "metrics.jsonl")
    assert {"step", "train/loss", "train/gradient_norm"} <= set(records[0])
    assert any("validation/jac_pooled" in record for record in records)
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_few_labels_and_no_test_volume_are_enough(small_config, tmp_path, capsys):
    config = small_config("supervised", "all")
    config.data.update({"test_image": "", "test_label": "", "validation_region": "none", "voxel_nm": "20,5,5"})
    config.train.steps = 2
    assert train_and_evaluate(config, tmp_path) == {}
    assert "dualrel predict" in capsys.readouterr().out
    kept = {path.name: json.loads(path.read_text())["of"] for path in tmp_path.glob("threshold*.json")}
    assert kept["threshold_smoothed.json"]["z_smoothing_nm"] == config.predict.z_smoothing_nm  # that of predict
    assert "z_smoothing_nm" not in kept["threshold.json"]  # that of evaluate


@pytest.mark.parametrize("method", ["dualrel", "supervised"])
def test_the_progress_shows_the_loss_on_labels(method, small_config, tmp_path, capsys):
    """Which is not drowned by terms whose weight grows; where there are no others it is the whole loss."""
    config = small_config(method)
    config.train.update({"steps": 2, "eval_every_steps": 2, "log_every_steps": 2})
    train(config, tmp_path)
    (record,) = (record for record in read_records(tmp_path / "metrics.jsonl") if "train/loss" in record)
    wanted = record["train/loss_supervised" if method == "dualrel" else "train/loss"]
    assert f"step 2/2: loss on labels {wanted:.3f}\n" in capsys.readouterr().out
    assert method == "supervised" or wanted != record["train/loss"]


def test_killed_training_continues_bit_for_bit_and_without_tensorflow(small_config, tmp_path):
    config = small_config()
    subprocess.run(command(config, tmp_path / "whole"), check=True, capture_output=True, timeout=300)

    def saving(step):
        return any((tmp_path / "killed" / "checkpoints").glob(f"{step}*"))  # complete, or still being written

    for step in (2, 4):
        process = subprocess.Popen(command(config, tmp_path / "killed"), stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 240
        while not saving(step) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = subprocess.run(command(config, tmp_path / "killed"), check=True, capture_output=True, text=True, timeout=300)
    assert "Continuing at step" in last.stdout
    for whole, killed in zip(
        final_state(tmp_path / "whole", config), final_state(tmp_path / "killed", config), strict=True
    ):
        np.testing.assert_array_equal(whole, killed)
    steps = [record["step"] for record in read_records(tmp_path / "killed" / "metrics.jsonl") if "train/loss" in record]
    assert steps == list(range(1, 7))  # nothing missing, nothing twice


@pytest.mark.parametrize("several", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_several_devices_train_the_same_as_one(small_config, tmp_path, several):
    losses, states = [], []
    for devices in (1, several):
        config = small_config()
        config.data.validation_region = "none"
        config.train.devices = devices
        states.append(jax.tree.leaves(jax.device_get(train(config, tmp_path / str(devices)).teacher)))
        records = read_records(tmp_path / str(devices) / "metrics.jsonl")
        losses.append([record["train/loss"] for record in records if "train/loss" in record])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    for a, b in zip(*states, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.slow
def test_several_steps_in_one_call_train_the_same(small_config, tmp_path):
    states, config = [], small_config()
    config.data.validation_region = "none"
    config.train.update({"log_every_steps": 3, "eval_every_steps": 6, "checkpoint_every_steps": 6})
    for steps in (1, 3):
        config.train.steps_per_call = steps
        states.append(jax.tree.leaves(jax.device_get(train(config, tmp_path / str(steps)))))
    for a, b in zip(*states, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    told = [read_records(tmp_path / steps / "metrics.jsonl") for steps in ("1", "3")]
    assert [record["step"] for record in told[0]] == [record["step"] for record in told[1]]
    np.testing.assert_allclose(*([r["train/loss"] for r in records] for records in told), rtol=1e-4)
    config.train.update({"steps": 8, "steps_per_call": 4, "log_every_steps": 4})
    config.train.update({"eval_every_steps": 8, "checkpoint_every_steps": 8})
    (tmp_path / "1" / "config.json").write_text(config_lib.resolve(config).to_json_best_effort())
    with pytest.raises(InputError, match="steps_per_call is 4; expected a divisor of 6"):
        train(config, tmp_path / "1")


def test_several_steps_in_one_call_need_slices_on_the_device(small_config, tmp_path):
    config = small_config("supervised")
    config.data.pipeline = "tf"
    config.train.update({"steps": 4, "steps_per_call": 2, "log_every_steps": 2})
    config.train.update({"eval_every_steps": 4, "checkpoint_every_steps": 4})
    with pytest.raises(InputError, match="steps_per_call is 2.*expected 1, or slices kept on the device"):
        train(config, tmp_path)


def test_tf_data_pipeline_trains_and_restarts_the_same(small_config, tmp_path):
    pytest.importorskip("tensorflow")
    config = small_config("mean_teacher")  # reads unlabelled crops too, and compiles in half the time of DualRel
    config.data.pipeline = "tf"
    config.data.validation_region = "none"
    config.train.steps = 4
    whole = jax.tree.leaves(jax.device_get(train(config, tmp_path / "whole")))
    stopped = tmp_path / "stopped"
    train(config, stopped)
    for folder in (stopped / "checkpoints").iterdir():
        if folder.name == "4":
            folder.rename(tmp_path / "gone")
    again = jax.tree.leaves(jax.device_get(train(config, stopped)))
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_corrupt_checkpoint_is_named_and_the_one_before_is_used(small_config, tmp_path, capsys):
    config = small_config("supervised")
    config.data.validation_region = "none"
    train(config, tmp_path)
    whole = final_state(tmp_path, config)
    for path in (tmp_path / "checkpoints" / "6").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    train(config, tmp_path)
    output = capsys.readouterr().out
    assert "checkpoints/6 cannot be read and is skipped" in output
    assert "Continuing at step 4" in output
    for a, b in zip(whole, final_state(tmp_path, config), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def diverging(monkeypatch):
    """Trainings with a learning rate that no config allows."""
    rate = schedules.learning_rate
    monkeypatch.setattr(schedules, "learning_rate", lambda peak, *steps: rate(1e30, *steps))


def test_a_diverged_training_stops_and_names_the_step(diverging, small_config, tmp_path):
    config = small_config("supervised")
    with pytest.raises(InputError, match=r"at step [2-6].*learning_rate"):
        train(config, tmp_path)


def test_what_diverged_between_two_lines_of_the_log_is_not_kept(diverging, small_config, tmp_path):
    config = small_config("supervised")
    config.data.validation_region = "none"
    config.train.update({"log_every_steps": 6, "eval_every_steps": 6, "checkpoint_every_steps": 5})
    with pytest.raises(InputError, match="at step 5.*learning_rate"):
        train(config, tmp_path)
    assert not (tmp_path / "checkpoints" / "5").exists()


class NotFinite(Supervised):
    """The loss of the third step, and of it alone, is NaN."""

    def loss(self, variables, teacher, batch, rng, step):
        total, (diagnostics, variables) = super().loss(variables, teacher, batch, rng, step)
        total *= jax.numpy.where(step == 2, jax.numpy.nan, 1.0)
        return total, ({**diagnostics, "loss": total}, variables)


def test_a_step_that_is_not_finite_is_skipped_and_counted_and_a_restart_repeats_it(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr("dualrel_jax.train.create_method", NotFinite)
    config = small_config("supervised")
    config.data.validation_region = "none"
    config.model.norm = "batch"  # its statistics are no parameters
    config.train.update({"steps": 4, "checkpoint_every_steps": 2})
    whole = jax.device_get(train(config, tmp_path))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(whole))
    assert (int(whole.step), int(whole.skipped.total), int(whole.skipped.in_a_row)) == (4, 1, 0)
    records = read_records(tmp_path / "metrics.jsonl")
    assert [("train/loss" in record, record.get("train/skipped_steps")) for record in records] == [
        *[(True, None)] * 2,
        (False, 1),
        (True, 1),
    ]
    (tmp_path / "checkpoints" / "4").rename(tmp_path / "gone")
    again = jax.device_get(train(config, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, whole, again)


def test_reading_a_run_leaves_a_save_in_progress_alone(tmp_path):
    saving = tmp_path / "2.orbax-checkpoint-tmp"
    saving.mkdir()
    for clean in (False, True):
        with Checkpoints(tmp_path, clean=clean) as checkpoints:
            checkpoints.save(3, {"step": jax.numpy.zeros(())})  # it waits for the cleaning
        assert saving.exists() != clean


def test_hosts_with_unequal_devices_are_told(small_config):
    mesh = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(process_index=i) for i in (0, 0, 1)]), size=3)
    with pytest.raises(InputError, match=r"takes \[1, 2\] devices of the hosts"):
        sharding.check_batches(small_config("supervised").train, False, mesh)


def test_a_host_without_a_device_is_told(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with pytest.raises(InputError, match="devices is 1, which leaves this host, number 1, without work"):
        train(small_config("supervised"), tmp_path)


@pytest.mark.slow
def test_two_processes_train_together(small_config, tmp_path):
    config = small_config()
    config.train.update({"steps": 3, "devices": 0})
    alone = command(config, tmp_path / "alone")
    coordinator = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=4", "count=2")}
    processes = []
    for i in range(2):
        hosts = (f"--coordinator={coordinator}", "--num_processes=2", f"--process_id={i}")
        together = command(config, tmp_path / "together", *hosts)
        processes.append(
            subprocess.Popen(together, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    subprocess.run(alone, check=True, capture_output=True, timeout=300)
    for a, b in zip(final_state(tmp_path / "alone", config), final_state(tmp_path / "together", config), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
