"""The command line as a person meets it: help, and what it says to wrong input."""

import errno
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

import dualrel_jax
from dualrel_jax import open_volume
from dualrel_jax.main import main, parse
from dualrel_jax.train import train


@pytest.fixture
def base(small_config, tmp_path, volume_files):
    """The flags of a training that would work."""
    return [
        "--config=configs/dualrel.py:own,1/3",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.image={volume_files['train_image']}",
        f"--config.data.label={volume_files['train_label']}",
        "--config.data.train_region=0:9",
        "--config.data.validation_region=10:12",
        "--config.train.crop_px=32",
        "--config.train.steps=1",
    ]


def refused(capsys, argv):
    """Runs a command that must be refused with one sentence and exit code 2; -> the sentence."""
    assert main(argv) == 2
    *before, error = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("dualrel: ")
    bars = re.compile(r"\d+/\d+ \[.*(slice|box|s)/(s|slice|box)\]|^$")
    assert all(bars.search(line) for line in before)  # at most progress bars: no traceback
    return error


def write(path, array):
    tifffile.imwrite(path, array)
    return path


def test_help_is_fast_and_names_every_flag():
    start = time.monotonic()
    process = subprocess.run([sys.executable, "-m", "dualrel_jax.main", "--help"], capture_output=True, text=True)
    assert time.monotonic() - start < 3  # 0.2 s on an idle machine
    assert process.returncode == 0
    for flag in ("--config", "--workdir", "--mode", "--coordinator"):
        assert flag in process.stdout


def test_a_region_is_for_predictions(capsys, base):
    assert "--region goes with --mode=predict" in refused(capsys, [*base, "--region=1:2,,"])
    given, config = parse([*base, "--mode=predict", "--region=1:2,,"])
    assert config.predict.region == "1:2,,"


def test_import_is_lazy():
    code = "import sys, dualrel_jax; print(sorted({'jax', 'tensorflow', 'numpy'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_configs_are_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, config = parse(["--config", "configs/supervised.py:lucchi,1/16", "--workdir=x", "--config.size=base"])
    assert (config.method.name, config.data.name, config.data.labelled) == ("supervised", "lucchi", "1/16")
    assert config.size == "base"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--config.data.image=nowhere/em.tif", "nowhere"),
        ("--config.data.labelled=1/32", "1/32.*1/9"),
        ("--config.train.crop_px=64", "64 x 64.*48 x 48"),
        ("--config.train.devices=4 --config.train.batch_labelled=3", "batch_labelled is 3.*4 devices"),
        ("--config.train.crop_px=33", "crop_px is 33"),
        ("--config.train.devices=9", "devices is 9"),
        ("--config.data.name=lucky", "lucky.*lucchi"),
        ("--config.size=huge", "huge.*tiny"),
        ("--config.no_such_key=1", "no_such_key"),
        (
            "--config.predict.foreground_fraction=5.5",
            "foreground_fraction is 5.5; expected 0 or more, below 1: known fraction of the volume.*0.05",
        ),
        ("--config.train.steps=many", "steps.*many"),
        ("--config.data.validation_region=5:12", "overlaps"),
        ("--config.data.pipeline=carrier", "carrier.*resident"),
        ("--config.method.name=magic", "magic.*dualrel"),
        ("--mode=fly", "fly"),
        ("--workdir=", "--workdir is missing"),
        ("--compare=other", "--compare goes with --mode=figures"),
        ("--coordinator=host:1 --mode=predict", "--coordinator goes with trainings"),
        ("--config.predict.treshold=1", "no field predict.treshold; did you mean config.predict.threshold"),
        ("stray", "'stray' is not a flag"),
    ],
)
def test_a_wrong_flag_is_explained(base, flag, said, capsys):
    assert re.search(said, refused(capsys, [*base, *flag.split()]))


def test_a_home_folder_is_found_wherever_a_path_stands(base, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    flags = ["--workdir=~/run", "--config.data.image=~/a.tif,~/b~.tif", "--config.predict.output=~/out/mask.tif"]
    given, config = parse([*base, *flags])
    assert given.workdir == "/home/ada/run"
    assert config.data.image == "/home/ada/a.tif,/home/ada/b~.tif"
    assert config.predict.output == "/home/ada/out/mask.tif"


def test_a_work_folder_that_cannot_be_made_is_explained(base, volume_files, capsys):
    inside_a_file = volume_files["train_image"] / "run"
    assert str(inside_a_file) in refused(capsys, [*base, f"--workdir={inside_a_file}"])


def test_unknown_config_and_missing_config(capsys):
    assert "configs/dualrel.py" in refused(capsys, ["--config=configs/nothing.py", "--workdir=x"])
    assert "--config is missing" in refused(capsys, ["--workdir=x"])
    assert "no finished or started run" in refused(capsys, ["--workdir=nowhere", "--mode=predict"])


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def get_config(:", "SyntaxError"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1", "AttributeError.*get_config"),
        ("def get_config(arg=''):\n    return 1 / 0", "ZeroDivisionError"),
        ("def get_config(arg=''):\n    return {}", "returns a dict"),
    ],
)
def test_a_file_that_is_no_config_is_explained(program, reason, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(program)
    sentence = refused(capsys, [f"--config={path}:phantom", "--workdir=x"])
    assert re.search(f"{path}.*{reason}|{reason}", sentence) and "expected a Python file with get_config" in sentence


def test_a_path_that_is_too_long_is_explained(base, capsys):
    assert "File name too long" in refused(capsys, [*base, "--workdir=" + "a" * 5000])


def test_a_platform_without_a_device_is_explained():
    command = [sys.executable, "-m", "dualrel_jax.main", "--config=configs/supervised.py:phantom", "--workdir=x"]
    for platform in ("cuda", "abacus"):
        environment = {**os.environ, "JAX_PLATFORMS": platform}
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert process.returncode == 2
        assert "Traceback" not in process.stderr and f"JAX_PLATFORMS is {platform}" in process.stderr


@pytest.mark.parametrize(
    ("key", "make", "said"),
    [
        (
            "label",
            lambda p: write(p, np.zeros((12, 40, 48), np.uint8)),
            r"12 x 48 x 48|48 x 48.*40 x 48|40 x 48.*48 x 48",
        ),
        ("label", lambda p: write(p, np.zeros((12, 48, 48), np.uint8)), "label"),
        ("label", lambda p: write(p, np.arange(12 * 48 * 48).reshape(12, 48, 48).astype(np.uint8)), "label_kind"),
        ("image", lambda p: write(p, np.tile(np.uint8([90, 10, 10]), (12, 48, 48, 1))), "RGB|colour|grey"),
        ("image", lambda p: write(p, np.full((12, 48, 48), np.nan, np.float32)), "NaN"),
    ],
    ids=["shapes", "no labelled slice", "label values", "RGB", "NaN"],
)
def test_a_wrong_volume_is_explained(base, key, make, said, tmp_path, capsys):
    path = make(tmp_path / "wrong.tif")
    sentence = refused(capsys, [*base, f"--config.data.{key}={path}"])
    assert re.search(said, sentence)
    assert "wrong.tif" in sentence


def test_a_truncated_tiff_is_explained(base, volume_files, tmp_path, capsys):
    path = tmp_path / "cut.tif"
    path.write_bytes(volume_files["train_image"].read_bytes()[:9000])
    assert "cut.tif" in refused(capsys, [*base, f"--config.data.image={path}"])


def test_missing_public_data_says_where_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DUALREL_DATA", raising=False)
    argv = ["--config=configs/dualrel.py:lucchi", f"--workdir={tmp_path}", f"--config.data.dir={tmp_path}"]
    sentence = refused(capsys, argv)
    assert "dualrel download lucchi" in sentence and "training.tif" in sentence


def test_work_folder_of_another_config_and_use_of_a_finished_run(small_config, tmp_path, volume_files, capsys):
    config = small_config("supervised")
    config.train.update({"steps": 2, "optimizer": "muon"})  # the default
    train(config, tmp_path)
    run = f"--workdir={tmp_path}"

    other = small_config("supervised")
    other.train.optimizer = "muon"
    other.seed = 7
    with pytest.raises(ValueError, match="config.seed: 0 there, 7 now"):
        train(other, tmp_path)
    assert "config.model.width" in refused(capsys, [run, "--mode=evaluate", "--config.model.width=8"])
    assert "prediction_head" in refused(capsys, [run, "--mode=predict", "--config.predict.prediction_head=magic"])

    # Another volume: 60 nm pixels where the training had none are taken as they are; any size of slice fits.
    volume = write(tmp_path / "mine.tif", np.random.default_rng(0).integers(0, 65535, (5, 50, 71), dtype=np.uint16))
    output = tmp_path / "out" / "mask.zarr"
    assert main([run, "--mode=predict", f"--config.predict.input={volume}", f"--config.predict.output={output}"]) == 0
    mask = open_volume(output)
    assert mask.shape == (5, 50, 71)
    assert set(np.unique(mask[:])) <= {0, 255}
    assert open_volume(output.with_name("mask_probability.zarr"))[:].std() > 0
    assert (tmp_path / "out" / "mask.png").exists()

    assert main([run, "--mode=evaluate"]) == 0
    first = (tmp_path / "metrics.json").read_text()
    flags = [f"--config.data.test_{kind}={volume_files[f'train_{kind}']}" for kind in ("image", "label")]
    assert main([run, "--mode=evaluate", *flags]) == 0
    second = (tmp_path / "metrics.json").read_text()
    assert first != second and "train_image.tif" in second

    path = tmp_path / "config.json"
    older = json.loads(path.read_text())
    del older["train"]["optimizer"]
    path.write_text(json.dumps(older))
    sentence = refused(capsys, [run, "--mode=predict", f"--config.predict.input={volume}"])
    assert "another version" in sentence and "train.optimizer" in sentence


def test_a_file_above_the_limit_of_the_machine_is_explained(monkeypatch, tmp_path, capsys):
    def limited(*args):
        raise OSError(errno.EFBIG, "File too large", "report.html")

    monkeypatch.setattr("dualrel_jax.report.write_report", limited)
    (tmp_path / "config.json").write_text(dualrel_jax.get_config("supervised:phantom").to_json())
    assert "report.html grew larger than the limit" in refused(capsys, [f"--workdir={tmp_path}", "--mode=report"])


@pytest.mark.parametrize("how", ["while saving", "while logging"])
def test_a_full_disk_is_explained(how, base, small_config, tmp_path, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    if how == "while saving":
        from orbax.checkpoint import v1 as ocp

        monkeypatch.setattr(ocp.training.Checkpointer, "save_async", full)
    else:
        monkeypatch.setattr("dualrel_jax.training.metric_writer.MetricLogger.write", full)
    argv = ["--config=configs/supervised.py:own,1/3", *base[1:], "--mode=train", "--config.train.optimizer=adamw"]
    argv += ["--config.model.width=4", "--config.model.depth=2", "--config.train.devices=1"]
    assert "full" in refused(capsys, argv)
