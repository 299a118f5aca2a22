"""TFDS builders, end to end on tiny folders of the real layouts: built, loaded by TFDS, used by load_dataset."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import config, real_data, write_layout

from dualrel_jax.data.datasets.labels import LabelRule, Source
from dualrel_jax.data.datasets.public import LAYOUTS, read_layout
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.datasets.tfds.__main__ import build, main
from dualrel_jax.data.datasets.tfds.prepared import read_prepared
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(folder of the files, function file format -> folder of TFDS) with all data sets built."""
    files, tfds_dir = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("tfds")
    for name in LAYOUTS:
        write_layout(name, files)
        for file_format in ("array_record", "tfrecord"):
            build(name, str(files), str(tfds_dir / file_format), file_format)
    return files, lambda file_format: str(tfds_dir / file_format)


@pytest.mark.parametrize("file_format, read", [("array_record", "TFDS data source"), ("tfrecord", "array in memory")])
@pytest.mark.parametrize("name", LAYOUTS)
def test_prepared_slices_equal_those_of_the_files(prepared, name, file_format, read):
    files, tfds_dir = prepared
    expected, got = read_layout(name, files), read_prepared(name, tfds_dir(file_format))
    assert got.keys() == expected.keys()
    assert got["train"].image.format == read
    for split, source in expected.items():
        assert got[split].image.voxel_nm == source.image.voxel_nm
        assert len(got[split].zs) == len(source.zs)
        for ours, z in zip(got[split].zs, source.zs, strict=True):
            assert np.array_equal(got[split].image[ours], source.image[z])
            if source.rule:
                native = got[split].label[got[split].rule.index[ours]]
                assert np.array_equal(
                    got[split].rule.decode(native), source.rule.decode(source.label[source.rule.index[z]])
                )


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_slices_without_labels_and_ignored_pixels_stay_so(tmp_path, monkeypatch, file_format):
    image, native = (np.zeros((6, 32, 34), np.uint8) for _ in range(2))
    native[:, :20], native[:, 25:] = 7, 9
    rule = LabelRule("instances", 9, {1: 0, 4: 1})
    source = Source(Volume.from_array(image), tuple(range(6)), Volume.from_array(native[:2]), rule)
    layout = dataclasses.replace(LAYOUTS["vnc"], reader=lambda *_: {"train": source})
    monkeypatch.setitem(LAYOUTS, "vnc", layout)
    build("vnc", str(tmp_path), str(tmp_path / "tfds"), file_format)
    got = read_prepared("vnc", str(tmp_path / "tfds"))["train"]
    assert (len(got.zs), list(got.rule.index)) == (6, [1, 4])
    for z, i in rule.index.items():
        assert np.array_equal(got.rule.decode(got.label[got.rule.index[z]]), rule.decode(source.label[i]))
        assert set(np.unique(rule.decode(source.label[i]))) == {0, 1, 255}


@pytest.mark.parametrize("name", LAYOUTS)
def test_tfds_load(prepared, name):
    import tensorflow_datasets as tfds

    files, tfds_dir = prepared
    splits, expected = tfds.load(name, data_dir=tfds_dir("tfrecord")), read_layout(name, files)
    assert {split: len(examples) for split, examples in splits.items()} == {
        split: len(source.zs) for split, source in expected.items()
    }
    for split, source in expected.items():
        zs = []
        for example in splits[split].as_numpy_iterator():
            assert example["image"].dtype == example["label"].dtype == np.uint8
            assert example["image"].shape == example["label"].shape and example["image"].shape[-1] == 1
            assert set(np.unique(example["label"])) == ({0, 1} if source.rule else {0})
            assert example["has_label"] == (source.rule is not None)
            zs.append(int(example["z"]))
        assert zs == list(source.zs)


@pytest.mark.parametrize("name", LAYOUTS)
def test_load_dataset_reads_them(prepared, name):
    files, tfds_dir = prepared
    from_files = load_dataset(config(name, dir=str(files)))
    from_tfds = load_dataset(config(name, dir="nowhere", source="tfds", tfds_dir=tfds_dir("array_record")))
    for kind in ("train", "validation", "test"):
        for ours, theirs in zip(getattr(from_tfds, kind), getattr(from_files, kind), strict=True):
            assert (ours.name, ours.pixel_nm, ours.range) == (theirs.name, theirs.pixel_nm, theirs.range)
            assert len(ours.labelled_zs) == len(theirs.labelled_zs)
            assert np.array_equal(ours.image_at(ours.zs[-1]), theirs.image_at(theirs.zs[-1]))


def test_a_data_set_that_is_not_built_says_how(tmp_path):
    with pytest.raises(InputError, match="python -m dualrel_jax.data.datasets.tfds lucchi"):
        read_prepared("lucchi", str(tmp_path))


def test_missing_files_end_the_command_with_a_sentence(tmp_path, capsys):
    (tmp_path / "lucchi").mkdir()
    for folder, said in ((tmp_path, "training.tif is missing"), (tmp_path / "none", "none does not exist")):
        with pytest.raises(SystemExit) as stopped:
            main(["lucchi", f"--manual_dir={folder}", f"--data_dir={tmp_path / 'tfds'}"])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err


def test_the_path_given_to_tfds_build_holds_one_builder():
    """`tfds build PATH` imports the module by its path, and wants exactly one builder in it."""
    from tensorflow_datasets.scripts.cli import build as tfds_build

    import dualrel_jax.data.datasets.tfds as package

    for name in LAYOUTS:
        path = Path(package.__file__).with_name(name)
        builder_cls, _ = tfds_build._get_builder_cls_and_kwargs(str(path), has_imports=False)
        assert builder_cls.name == name


def test_data_sets_load_without_tensorflow():
    code = "import sys, dualrel_jax.data.datasets.registry; "
    code += "assert not {'tensorflow', 'tensorflow_datasets'} & {*sys.modules}"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lucchi", "vnc"])
def test_real_data(tmp_path, name):
    data = real_data(name)
    build(name, str(data), str(tmp_path))
    expected, got = read_layout(name, data.parent), read_prepared(name, str(tmp_path))
    assert got.keys() == expected.keys()
    for split, source in expected.items():
        for z in (0, len(source.image) // 2, len(source.image) - 1):
            assert np.array_equal(got[split].image[z], source.image[z])
