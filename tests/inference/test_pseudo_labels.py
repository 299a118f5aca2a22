"""Pseudo-labels of a training's own volumes, and the second stage that learns from them."""

import dataclasses

import jax
import numpy as np
import pytest

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference import pseudo_labels, run
from dualrel_jax.train import train


@pytest.fixture
def part(small_config):
    return load_dataset(small_config().data).train[0]


def test_a_pixel_close_to_the_threshold_is_ignored():
    probability = np.array([0.0, 0.29, 0.31, 0.4, 0.49, 0.51, 1.0])
    labels = pseudo_labels.label_of(probability, 0.4)
    np.testing.assert_array_equal(labels, [0, 0, IGNORE, IGNORE, IGNORE, 1, 1])


def test_slices_of_a_slab_have_the_labels_of_its_probabilities(part):
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    y, x = part.view.shape[1:]
    probability = np.zeros((3, y, x), np.uint8)
    probability[1, :, 5:15] = 200
    slabs = ((slice(2, 5), Volume.from_array(probability), 0.5),)
    labelled = pseudo_labels.PseudoLabelledPart(**fields, slabs=slabs)
    np.testing.assert_array_equal(labelled.native_label_at(3), probability[1] > 0)
    assert not labelled.native_label_at(4).any()


def test_of_a_large_volume_slabs_are_labelled(part):
    first, last = part.zs[0], part.zs[-1] + 1
    assert pseudo_labels.boxes_of(part) == [(slice(first, last), *(slice(0, side) for side in part.view.shape[1:]))]
    image = dataclasses.replace(part.image, shape=(1000, 20_000, 30_000))
    large = dataclasses.replace(part, image=image, zs=tuple(range(10, 1000)))
    boxes = pseudo_labels.boxes_of(large)
    assert boxes[0][0].start == 10 and boxes[-1][0].stop == 1000
    assert all(z.stop - z.start == pseudo_labels.SLAB for z, *_ in boxes)
    assert sum(np.prod([side.stop - side.start for side in box], dtype=float) for box in boxes) <= pseudo_labels.MOST_PX
    assert all(side.stop - side.start <= pseudo_labels.SIDE_PX for _, *window in boxes for side in window)


def leaves(variables):
    return jax.tree.leaves(jax.device_get(variables))


def test_the_second_stage_learns_from_masks_of_the_first_and_continues_bit_for_bit(small_config, tmp_path, capsys):
    config = small_config("supervised")
    config.data.validation_region = "none"
    config.train.update({"second_stage_fraction": 2 / 3, "checkpoint_every_steps": 2})
    whole = leaves(train(config, tmp_path).teacher)
    assert "Second stage: 4 steps" in capsys.readouterr().out
    first, partition = run.load_run(tmp_path / "first_stage"), Partition.load(tmp_path / "partition.json")
    assert first.step == 6
    assert any(not np.array_equal(a, b) for a, b in zip(leaves(first.variables), whole, strict=True))
    folder = tmp_path / "first_stage" / "pseudo_labels"
    dataset, taught = pseudo_labels.pseudo_labelled(first, partition, folder)
    true, pseudo = dataset.train
    labelled = [z for name, z in taught.labelled if name == true.name]
    assert [(true.name, z) for z in labelled] == list(partition.labelled)  # pseudo-labels are no labels
    assert sorted([*labelled, *pseudo.labelled_zs]) == list(true.zs)  # and replace none
    assert pseudo.shape_at_training == true.shape_at_training

    (tmp_path / "checkpoints" / "4").rename(tmp_path / "gone")
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = leaves(train(config, tmp_path).teacher)
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert written == {path: path.stat().st_mtime_ns for path in written}  # not predicted again


def test_the_second_stage_has_nothing_of_one_other_volume(small_config):
    config = small_config()
    config.predict.update({"points": "a.csv", "foreground_fraction": 0.1, "full_size": True, "region": "2:4,,"})
    config.predict.tile = 32
    predict = pseudo_labels.for_pseudo_labels(config).predict
    assert (predict.points, predict.foreground_fraction, predict.full_size, predict.region) == ("", 0.0, False, "")
    assert predict.tile == 32 and config.predict.full_size


def test_several_hosts_have_no_second_stage(small_config, tmp_path, monkeypatch):
    config = small_config("supervised")
    config.train.second_stage_fraction = 0.5
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="second_stage_fraction is 0.5; expected 0 on several hosts"):
        train(config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dualrel", "cps"])
def test_the_first_stage_is_the_training_without_a_second(method, small_config, tmp_path):
    config = small_config(method)
    config.train.update({"second_stage_fraction": 0.5, "eval_every_steps": 6})
    train(config, tmp_path / "two")
    config.train.second_stage_fraction = 0.0
    alone = leaves(train(config, tmp_path / "alone").teacher)
    for a, b in zip(alone, leaves(run.load_run(tmp_path / "two" / "first_stage").variables), strict=True):
        np.testing.assert_array_equal(a, b)
