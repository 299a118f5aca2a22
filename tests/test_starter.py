"""The weights that come with the package."""

import json
import os
import shutil

import numpy as np
import pytest
import tifffile

from dualrel_jax import cli, starter
from dualrel_jax.errors import InputError
from dualrel_jax.inference.run import load_run


def test_the_starter_is_small_and_names_no_path_of_the_machine_it_was_trained_on():
    folder = starter.folder("starter")
    assert sum((folder / name).stat().st_size for name in starter.FILES) < 4_000_000
    texts = [(folder / name).read_text() for name in starter.FILES if not name.endswith("safetensors")]
    assert not any("/home" in text or "/root" in text or "/work" in text for text in texts)


def test_a_volume_without_any_label_is_segmented(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    tifffile.imwrite("em.tif", rng.integers(60, 200, (2, 64, 64), dtype=np.uint8))
    assert cli.main(["predict", "starter", "em.tif", "--voxel-nm", "5,5,5"]) == 0
    assert tifffile.imread("starter/prediction/mask.tif").shape == (2, 64, 64)
    assert "now the run starter" in capsys.readouterr().out
    assert cli.main(["predict", "starter", "em.tif", "--voxel-nm", "5,5,5", "-o", "again.tif"]) == 0
    assert "now the run starter" not in capsys.readouterr().out  # it is there


def test_the_starter_is_scored_on_a_labelled_volume_without_the_files_of_its_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    tifffile.imwrite("em.tif", rng.integers(60, 200, (2, 64, 64), dtype=np.uint8))
    tifffile.imwrite("truth.tif", np.tile(np.uint8([0, 255]), (2, 64, 32)))
    command = ["evaluate", "starter", "--image", "em.tif", "--labels", "truth.tif"]
    assert cli.main([*command, "--voxel-nm", "5,5,5"]) == 0
    out = capsys.readouterr().out
    assert "labels of 2 slices" in out and "pictures/masks.png (outlines over EM)" in out and "curves.png" not in out
    for words, sentence in {(): "em.tif does not state its voxel size", ("--labels", ""): "PATH"}.items():
        assert cli.main([*command, *words]) == 2
        assert sentence in capsys.readouterr().err
    assert cli.main(["evaluate", "starter"]) == 2
    assert "starter was trained on files that cannot be read here: fly_brain/images.tif" in capsys.readouterr().err


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter").mkdir()
    assert starter.folder("starter").resolve() == tmp_path / "starter"
    starter.unpack("starter")
    assert not list((tmp_path / "starter").iterdir())


def test_several_commands_may_begin_at_once(tmp_path, monkeypatch):
    """As in a job array: none sees half a starter, and the second to come leaves what the first made."""
    monkeypatch.chdir(tmp_path)
    copy, first = shutil.copyfile, []

    def copy_while_another_begins(source, target):
        assert first or not (tmp_path / "starter").exists()
        copy(source, target)
        if not first:
            first.append(target)
            starter.unpack("starter")

    monkeypatch.setattr(shutil, "copyfile", copy_while_another_begins)
    monkeypatch.setattr(os, "getpid", iter((1, 2)).__next__)
    starter.unpack("starter")
    assert {path.name for path in tmp_path.iterdir()} == {"starter"}
    assert {path.name for path in (tmp_path / "starter").iterdir()} == set(starter.FILES)


def test_weights_of_another_network_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    starter.unpack("starter")
    path = tmp_path / "starter" / "config.json"
    config = json.loads(path.read_text())
    config["model"]["width"] = 16
    path.write_text(json.dumps(config))
    with pytest.raises(
        InputError, match="weights.safetensors does not fit starter/config.json .*kernel.*copy the whole"
    ):
        load_run("starter")
