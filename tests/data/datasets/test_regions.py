"""Training and validation regions that are apart in z and in-plane: nothing beside a window is read or scored."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import config, write_layout

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.appearance import appearances
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.pipeline import crops, resident
from dualrel_jax.inference import threshold
from dualrel_jax.inference.scoring import score
from dualrel_jax.suggest import regions_of
from dualrel_jax.utils import sharding

REGIONS = {"train_region": "0:8,,0:30", "validation_region": "9:12,4:40,32:"}


@pytest.fixture
def dataset(tmp_path):
    write_layout("fly_brain", tmp_path)
    return load_dataset(config("fly_brain", dir=str(tmp_path), **REGIONS))


def test_a_region_is_a_window_of_its_slices(dataset):
    (train,), (validation,) = dataset.train, dataset.validation
    assert (train.zs, validation.zs) == (tuple(range(8)), (9, 10, 11))  # z counts in the volume
    assert (train.shape_at_training, validation.shape_at_training) == ((40, 30), (36, 16))
    assert train.image.shape == validation.image.shape == (12, 40, 48)  # the whole volume stays at hand
    for z in validation.labelled_zs:
        raw = validation.image[z].astype(float)
        low, high = validation.range
        expected = np.rint(((raw[4:40, 32:] - low) * 255 / (high - low)).clip(0, 255))
        assert np.abs(validation.image_at(z) - expected).max() <= 1
        assert np.array_equal(validation.native_label_at(z), validation.label[z][4:40, 32:] > 0)
        whole = validation.whole_label_at(z)
        assert np.array_equal(whole[4:40, 32:], validation.native_label_at(z))
        assert (whole[:4] == IGNORE).all() and (whole[:, :32] == IGNORE).all()


def test_regions_beside_each_other_may_share_slices(tmp_path):
    write_layout("fly_brain", tmp_path)
    fields = {"train_region": ",,0:24", "validation_region": ",,24:48"}
    dataset = load_dataset(config("fly_brain", dir=str(tmp_path), **fields))
    assert dataset.train[0].zs == dataset.validation[0].zs == tuple(range(12))


def test_no_crop_comes_from_beside_the_window(dataset):
    (part,) = dataset.train
    stained = part.image[0:12].copy()
    stained[:, :, 30:], stained[8:] = 255, 255
    image = dataclasses.replace(part.image, _read=lambda z, y, x: stained[z, y, x])
    part = dataclasses.replace(part, image=image, range=(0, 255))
    partition = make_partition([part], config("fly_brain", labelled="2"))
    settings = _settings()
    slices = [crops.resolve((part,), entries) for entries in (partition.labelled, partition.unlabelled)]
    feed = resident.ResidentFeed(settings, *slices, sharding.create_mesh(1))
    cut = jax.jit(feed.crops)
    for seed in range(8):
        raw = cut(next(feed), jax.random.key(seed))
        assert max(np.max(raw.image), np.max(raw.unlabelled)) < 255  # the tissue itself stays below


def _settings():
    import dualrel_jax

    settings = dualrel_jax.get_config("mean_teacher:fly_brain,2")
    settings.train.crop_px, settings.train.batch_labelled, settings.train.batch_unlabelled = 16, 4, 4
    return settings


class Brightness:
    """A predictor without a network: dark is mitochondrion."""

    def each(self, variables, images):
        for image in images:
            yield (image < 90).astype(np.float32)


def test_scores_threshold_and_appearance_are_of_the_window(dataset):
    (train,), (validation,) = dataset.train, dataset.validation
    scores, samples = score(Brightness(), {}, [validation], 0.5)
    assert [record["z"] for record in scores.records] == [9, 10, 11]
    assert sum(scores.records[0][key] for key in ("tp", "fp", "fn", "tn")) == 36 * 16
    assert scores.summary()["jac_pooled"] > 0.8 and samples[0][0].shape == (36, 16)
    partition = make_partition([train], config("fly_brain", labelled="2"))
    assert 0.25 <= threshold.calibrate(Brightness(), {}, [train], partition, smoothing_nm=12.0) <= 0.75
    (seen,) = appearances(dataset, partition)
    assert seen.path == train.image.path and seen.voxel_nm == train.image.voxel_nm


def test_suggested_boxes_are_counted_in_the_volume(dataset):
    (part,) = dataset.validation
    boxes = list(regions_of(part, 9, np.zeros((36, 16)), 20))
    assert {box.y for box in boxes} == {(4, 24), (24, 40)} and {box.x for box in boxes} == {(32, 48)}
    (whole,) = regions_of(part, 9, np.zeros((36, 16)), 0)
    assert whole.is_whole_slice
