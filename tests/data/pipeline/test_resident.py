"""The resident pipeline: crops are windows of the right slices, a function of the key, on any number of devices."""

import jax
import numpy as np
import pytest
import tiny

import dualrel_jax
from dualrel_jax.data.pipeline import crops as crops_lib
from dualrel_jax.data.pipeline import resident
from dualrel_jax.data.pipeline.crops import SliceOf
from dualrel_jax.data.pipeline.resident import ResidentFeed
from dualrel_jax.utils import sharding

CROP = 8
WIDE, TALL = tiny.part("wide", 3, (14, 24), empty=(1,)), tiny.part("tall", 2, (30, 10), seed=1)
LABELLED = [SliceOf(WIDE, 0), SliceOf(WIDE, 1), SliceOf(TALL, 1)]
UNLABELLED = [SliceOf(TALL, 0), SliceOf(WIDE, 2)]
KEYS = [jax.random.key(seed) for seed in range(6)]


def config(**data):
    config = dualrel_jax.get_config("dualrel:own,1/3")
    config.train.update({"batch_labelled": 8, "batch_unlabelled": 4, "crop_px": CROP})
    config.augment.scale = (1.0, 1.0)
    config.data.update(data)
    return config


@pytest.fixture(scope="module")
def crops():
    """Crops of each of KEYS, on one device and on four."""
    made = []
    for devices in (1, 4):
        feed = ResidentFeed(config(foreground_crop_fraction=1.0), LABELLED, UNLABELLED, sharding.create_mesh(devices))
        cut = jax.jit(feed.crops)
        made.append([cut(next(feed), key) for key in KEYS])
    return made


def test_crops_are_windows_of_slices_of_any_size_with_their_own_labels(crops):
    placed = [tiny.check_crops(raw, LABELLED, UNLABELLED, share=1.0) for raw in crops[0]]
    labelled, unlabelled = (sum(places, []) for places in zip(*placed, strict=True))
    assert {i for i, _, _ in labelled} == {0, 1, 2} and {i for i, _, _ in unlabelled} == {0, 1}
    # To the last row and column of the smaller slices, and no further.
    assert {x for i, _, x in unlabelled if i == 0} == {0, 1, 2}
    assert len({y for i, y, _ in unlabelled if i == 0}) > 4
    assert len(set(labelled)) > 20


def test_the_key_decides(crops):
    feed = ResidentFeed(config(foreground_crop_fraction=1.0), LABELLED, UNLABELLED, sharding.create_mesh(1))
    again = jax.jit(feed.crops)(next(feed), KEYS[2])
    assert all(np.array_equal(a, b) for a, b in zip(again, crops[0][2], strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(again, crops[0][3], strict=True))


def test_four_devices_cut_the_crops_of_one_each_its_share(crops):
    for one, four in zip(*crops, strict=True):
        for a, b in zip(one, four, strict=True):
            assert np.array_equal(a, b)
            assert len(b.sharding.device_set) == 4 and not b.is_fully_replicated
            assert {shard.data.shape[0] for shard in b.addressable_shards} == {len(b) // 4}


def test_slices_are_whole_on_every_device():
    mesh = sharding.create_mesh(4)
    feed = ResidentFeed(config(), LABELLED, UNLABELLED, mesh)
    assert all(x.sharding == sharding.replicated(mesh) for x in jax.tree.leaves(next(feed)))


def test_a_method_without_unlabelled_crops():
    feed = ResidentFeed(config(foreground_crop_fraction=0.0), LABELLED, [], sharding.create_mesh(4))
    raw = jax.jit(feed.crops)(next(feed), KEYS[0])
    assert raw.unlabelled.shape == (0, CROP, CROP)
    tiny.check_crops(raw, LABELLED, [], share=0.0)


def test_the_memory_is_that_of_the_padded_slices():
    fields = config()
    fields.augment.scale = (0.5, 1.0)
    feed = ResidentFeed(fields, LABELLED, UNLABELLED, sharding.create_mesh(1))
    labelled, unlabelled = next(feed)
    pixels = labelled.images.size + labelled.labels.size + unlabelled.images.size + unlabelled.labels.size
    assert resident.size_mib(fields, LABELLED, UNLABELLED) == pixels / 2**20
    assert resident.size_mib(fields, LABELLED, []) == (labelled.images.size + labelled.labels.size) / 2**20
    assert unlabelled.images.shape == (2, 30 + 8, 24 + 8)  # 4 pixels around a crop of 8
    assert labelled.points.shape == (3, crops_lib.POINTS, 2)
