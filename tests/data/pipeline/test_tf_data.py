"""The tf.data pipeline: an example is (seed, number) alone, on any host and after any restart. And who chooses it."""

import dataclasses
import sys

import jax
import numpy as np
import pytest
import tiny

import dualrel_jax
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Dataset
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.pipeline import create as create_lib
from dualrel_jax.data.pipeline import tf_data
from dualrel_jax.data.pipeline.crops import SliceOf
from dualrel_jax.data.pipeline.resident import ResidentFeed
from dualrel_jax.data.pipeline.tf_data import TfDataFeed
from dualrel_jax.errors import InputError
from dualrel_jax.utils import sharding

CROP = 8
WIDE, TALL = tiny.part("wide", 3, (14, 24), empty=(1,)), tiny.part("tall", 2, (30, 10), seed=1)
LABELLED = [SliceOf(WIDE, 0), SliceOf(WIDE, 1), SliceOf(TALL, 1)]
UNLABELLED = [SliceOf(TALL, 0), SliceOf(WIDE, 2)]


def config(seed=0, **data):
    config = dualrel_jax.get_config("dualrel:own,1/3")
    config.seed = seed
    config.train.update({"batch_labelled": 8, "batch_unlabelled": 4, "crop_px": CROP})
    config.model.update({"stem": 1, "depth": 2})
    config.augment.scale = (1.0, 1.0)
    config.data.update({"foreground_crop_fraction": 1.0, **data})
    return config


def batches(steps, start_step=0, devices=1, unlabelled=UNLABELLED, **fields):
    mesh = sharding.create_mesh(devices)
    made = TfDataFeed(config(**fields), LABELLED, unlabelled, mesh, start_step)
    return [made.crops(next(made), None) for _ in range(steps)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def five():
    """The first five batches of a run."""
    return batches(5)


def test_crops_are_windows_of_slices_of_any_size_with_their_own_labels(five):
    placed = [tiny.check_crops(raw, LABELLED, UNLABELLED, share=1.0) for raw in five]
    labelled, unlabelled = (sum(places, []) for places in zip(*placed, strict=True))
    assert (len(labelled), len(unlabelled)) == (40, 20)
    assert {i for i, _, _ in labelled} == {0, 1, 2} and {i for i, _, _ in unlabelled} == {0, 1}
    assert len(set(labelled)) > 20 and len(set(unlabelled)) > 12


def test_a_restart_continues_with_the_same_crops(five):
    assert all(same(a, b) for a, b in zip(batches(2, start_step=3), five[3:], strict=True))
    assert not same(five[3], five[4])


def test_the_seed_decides_whatever_is_cached(five):
    assert same(batches(1, cache_mib=0)[0], five[0])
    assert not any(np.array_equal(a, b) for a, b in zip(batches(1, seed=1)[0], five[0], strict=True))


def test_each_host_reads_its_share_of_the_batch_of_one(five, monkeypatch):
    shares = []
    for host in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(jax, "process_count", lambda: 2)
            patched.setattr(jax, "process_index", lambda host=host: host)
            shares.append(batches(2, start_step=1))
    for left, right, whole in zip(*shares, five[1:3], strict=True):
        assert [len(x) for x in left] == [4, 4, 2]
        assert same([np.concatenate(pair) for pair in zip(left, right, strict=True)], whole)


def test_the_batch_is_split_over_the_devices(five):
    (batch,) = batches(1, devices=4)
    assert same(batch, five[0])
    assert all({shard.data.shape[0] for shard in x.addressable_shards} == {len(x) // 4} for x in batch)


def test_a_method_without_unlabelled_crops(five):
    (batch,) = batches(1, devices=4, unlabelled=[])
    assert batch.unlabelled.shape == (0, CROP, CROP)
    assert same(batch[:2], five[0][:2])


def test_without_tensorflow_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(tf_data, "_tensorflow", tf_data._tensorflow.__wrapped__)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match="needs TensorFlow.*data.pipeline=resident"):
        batches(1)


def test_a_damaged_slice_is_told_as_anywhere_else():
    nan = Volume.from_array(np.full((1, 20, 20), np.nan, np.float32), name="broken")
    broken = SliceOf(dataclasses.replace(WIDE, name="broken", image=nan), 0)
    with pytest.raises(InputError, match="broken, slice 0"):
        batches(1, unlabelled=[broken])


# ---------------------------------------------------------------------------------------------------------------------
# The choice between the pipelines
# ---------------------------------------------------------------------------------------------------------------------

DATASET = Dataset("tiny", (WIDE, TALL), (), ())
PARTITION = Partition((("wide", 0), ("tall", 1)), (("wide", 2),))


def feed_of(read_unlabelled):
    return {"read_unlabelled": read_unlabelled, "mesh": sharding.create_mesh(1), "start_step": 0}


def create(read_unlabelled=True, augment=None, **data):
    fields = config(**data)
    fields.augment.update(augment or {})
    return create_lib.create_feed(fields, DATASET, PARTITION, **feed_of(read_unlabelled))


def test_auto_keeps_on_the_device_what_fits():
    assert type(create()) is ResidentFeed
    assert type(create(resident_limit_mib=0)) is TfDataFeed
    assert type(create(resident_limit_mib=0, pipeline="resident")) is ResidentFeed
    assert type(create(pipeline="tf")) is TfDataFeed


@pytest.mark.parametrize("read_unlabelled", [True, False])
def test_all_methods_get_the_same_pipeline(read_unlabelled, monkeypatch):
    monkeypatch.setattr(create_lib.resident, "size_mib", lambda config, *slices: sum(map(len, slices)))
    assert type(create(read_unlabelled, resident_limit_mib=3)) is ResidentFeed
    assert type(create(read_unlabelled, resident_limit_mib=2)) is TfDataFeed  # 2 labelled, 1 unlabelled


@pytest.mark.parametrize("pipeline", ["resident", "tf"])
def test_crops_have_the_margin_that_zooming_out_shows_mirrored_where_a_slice_ends(pipeline):
    feeds = [create(pipeline=pipeline, augment={"scale": (low, 1.0)}) for low in (1.0, 0.5)]
    raw, wide = (jax.tree.map(np.asarray, jax.jit(x.crops)(next(x), jax.random.key(0))) for x in feeds)
    assert [x.shape for x in wide] == [(8, 16, 16), (8, 16, 16), (4, 16, 16)]
    labelled, unlabelled = [SliceOf(WIDE, 0), SliceOf(TALL, 1)], [SliceOf(WIDE, 2)]
    for slices, plain, crops in ((labelled, raw.image, wide.image), (unlabelled, raw.unlabelled, wide.unlabelled)):
        for patch, crop in zip(plain, crops, strict=True):
            i, y, x = tiny.locate(patch, slices)  # where it lay without a margin
            mirrored = np.pad(slices[i].part.image_at(slices[i].z), 4, mode="symmetric")
            assert np.array_equal(crop, mirrored[y : y + 16, x : x + 16])
    assert np.array_equal(wide.label[:, 4:-4, 4:-4], raw.label)


@pytest.mark.parametrize("pipeline", ["resident", "tf"])
def test_a_crop_larger_than_a_slice_is_refused(pipeline):
    fields = config(pipeline=pipeline)
    fields.train.crop_px = 16
    with pytest.raises(InputError, match="crop of 16 x 16"):
        create_lib.create_feed(fields, DATASET, PARTITION, **feed_of(True))


@pytest.mark.parametrize("pipeline", ["resident", "tf"])
def test_unlabelled_slices_are_left_alone_by_a_method_that_reads_none(pipeline):
    made = create(read_unlabelled=False, pipeline=pipeline)
    assert jax.jit(made.crops)(next(made), jax.random.key(0)).unlabelled.shape == (0, CROP, CROP)


def all_crops(pipeline, part):
    """The crops of two steps, cut from slice 0, with its labels, and from slice 1."""
    fields = config(pipeline=pipeline, foreground_crop_fraction=0.0)
    partition = Partition(((part.name, 0),), ((part.name, 1),))
    made = create_lib.create_feed(fields, Dataset("tiny", (part,), (), ()), partition, **feed_of(True))
    return [jax.tree.map(np.asarray, jax.jit(made.crops)(next(made), jax.random.key(step))) for step in range(2)]


@pytest.mark.parametrize("pipeline", ["resident", "tf"])
def test_the_centres_of_crops_lie_in_tissue(pipeline):
    """Each slice is padding below and on the right."""
    part = tiny.part("padded", 2, (64, 64))
    padded = np.array(part.image[:])
    padded[:, 24:] = padded[:, :, 24:] = 7
    for raw in all_crops(pipeline, dataclasses.replace(part, image=Volume.from_array(padded))):
        for crop in [*raw.image, *raw.unlabelled]:
            assert (crop[: CROP // 2, : CROP // 2] != 7).mean() > 0.9


@pytest.mark.parametrize("pipeline", ["resident", "tf"])
def test_crops_of_slices_without_padding_are_those_of_before(pipeline, monkeypatch):
    made = all_crops(pipeline, tiny.part("whole", 2, (64, 64)))
    monkeypatch.setattr(tf_data.crops, "padding", lambda image: np.zeros(image.shape, bool))
    for now, before in zip(made, all_crops(pipeline, tiny.part("whole", 2, (64, 64))), strict=True):
        assert same(now, before)


def test_crops_of_large_slices_are_those_of_whole_ones(monkeypatch):
    """Only what a crop needs is read: of no slice all rows and columns."""
    coarse = dataclasses.replace(tiny.part("large", 2, (60, 90)), pixel_nm=(10.0, 10.0))
    coarse = dataclasses.replace(coarse, image=dataclasses.replace(coarse.image, voxel_nm=(30.0, 5.0, 4.0)))
    unlabelled = [SliceOf(coarse, 0), SliceOf(coarse, 1), SliceOf(WIDE, 2)]
    whole = batches(3, unlabelled=unlabelled)
    extents, read = [], coarse.image._read

    def watched(z, y, x):
        extents.append((y.stop - y.start, x.stop - x.start))
        return read(z, y, x)

    object.__setattr__(coarse.image, "_read", watched)
    monkeypatch.setattr(tf_data, "WHOLE_PX", 1000)
    for got, expected in zip(batches(3, unlabelled=unlabelled), whole, strict=True):
        np.testing.assert_array_equal(got.unlabelled, expected.unlabelled)
    assert extents and max(extents) < (60, 90) and max(x for _, x in extents) < 60
