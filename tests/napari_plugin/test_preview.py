"""The order of tiles around what is on screen, and that their result is that of a whole prediction."""

import numpy as np
import pytest

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.inference import z_smoothing
from dualrel_jax.inference.volume_predictor import VolumePredictor
from dualrel_jax.napari_plugin import steps
from dualrel_jax.napari_plugin.preview import Preview, View


class Brightness:
    """Stands in for a network: the probability of a pixel is its grey value."""

    slices_at_once = in_flight = 1

    def __init__(self):
        self.shapes = []

    def __call__(self, variables, images):
        self.shapes.append(images.shape)
        return images.astype(np.float32) / 255


class Unread:
    """Stands in for an array of dask or zarr: too large for memory, it gives what is asked for and counts it."""

    ndim, dtype = 3, np.dtype(np.uint8)

    def __init__(self, shape):
        self.shape, self.voxels = shape, 0

    def __getitem__(self, index):
        z, y, x = index
        values = (z * 7 + np.add.outer(np.arange(y.start, y.stop), np.arange(x.start, x.stop)) % 200).astype(np.uint8)
        self.voxels += values.size
        return values


def model_of(tile=64, overlap=8, pixel_nm=None):
    return VolumePredictor(Brightness(), None, (0, 255), pixel_nm, tile, overlap, side=0)


def all_patches(preview, view):
    patches = []
    while (new := preview.next(view)) is not None:
        patches.extend(new)
    return patches


def put(patches, shape):
    probability = np.zeros(shape, np.uint8)
    for patch in patches:
        probability[patch.z, *patch.yx] = patch.probability
    return probability


def test_what_is_on_screen_comes_first_and_is_averaged_as_in_predict(rng_volume):
    volume = Volume.from_array(rng_volume, (20.0, 10.0, 10.0))
    model = model_of()
    preview = Preview(model, volume, sigma=1.0)
    view = View(5, (slice(100, 120), slice(130, 160)))
    patches = all_patches(preview, view)
    assert len(set(model.predictor.shapes)) == 1  # the network is compiled once
    first, slice_at_once = patches[0], [p for p in patches if p.z == 5]
    assert first.z == 5 and first.yx[0].start <= 100 < 120 <= first.yx[0].stop
    assert {(p.yx[0].start, p.yx[1].start) for p in slice_at_once} == {
        (tile.inner[0].start, tile.inner[1].start) for tile in preview.tiles
    }
    slices = model.probability_slices(volume)
    [whole] = z_smoothing.smoothed(slices, range(len(volume)), [5], 1.0)
    shown = put(patches, volume.shape)[5]
    np.testing.assert_allclose(shown[view.yx], whole[view.yx] * 255, atol=0.6)
    assert preview.is_mean(view) and preview.next(view) is None
    assert {p.z for p in patches} == set(range(1, 10))  # the slider finds its neighbours there


def test_a_step_of_the_slider_predicts_one_more_slice_a_tile(rng_volume):
    model = model_of(tile=256)
    preview = Preview(model, Volume.from_array(rng_volume, (20.0, 10.0, 10.0)), sigma=0.5)
    everything = (slice(0, 150), slice(0, 180))
    all_patches(preview, View(5, everything))
    before = len(model.predictor.shapes)
    all_patches(preview, View(6, everything))
    assert len(model.predictor.shapes) == before + 1


def test_of_a_volume_that_is_not_in_memory_only_the_tile_on_screen_is_read():
    array = Unread((4000, 50_000, 50_000))
    preview = Preview(model_of(tile=1024, overlap=64), Volume.from_array(array), sigma=0.0)
    view = View(2000, (slice(20_000, 20_300), slice(30_000, 30_300)))
    [patch] = preview.next(view)
    assert patch.z == 2000 and patch.yx[0].start <= 20_300 and patch.yx[0].stop >= 20_000
    assert array.voxels == 1024 * 1024


def test_slices_segmented_as_a_whole_are_not_segmented_again(rng_volume):
    preview = Preview(model_of(), Volume.from_array(rng_volume), sigma=0.0)
    for z in range(len(rng_volume)):
        preview.finish(z)
    assert preview.next(View(3, (slice(0, 150), slice(0, 180)))) is None


@pytest.mark.parametrize("shape, count", [((1024, 1024), 1), ((600, 1700), 2), ((2000, 2000), 9)])
def test_tiles_have_one_shape(shape, count):
    preview = Preview(model_of(tile=1024, overlap=64), Volume.from_array(Unread((3, *shape))), sigma=0.0)
    assert len(preview.tiles) == count
    assert len({tuple(part.stop - part.start for part in tile.outer) for tile in preview.tiles}) == 1


def test_instances_that_the_network_doubts_are_left_out_but_for_corrections():
    from dualrel_jax.configs import base

    mask = np.zeros((6, 40, 60), bool)
    mask[:, 5:20, 5:20] = mask[:, 5:20, 30:50] = mask[2:4, 25:38, 5:55] = True
    probability = np.where(mask, 230, 0).astype(np.uint8)
    probability[:, 25:] //= 4  # doubted
    probability[:, :, 30:] //= 4
    rules = base.get_config().instances
    rules.min_um3, rules.min_probability = 0.0, 0.65
    labels, rows = steps.label_and_measure(mask, probability, (30.0, 10.0, 10.0), rules)
    assert [row["id"] for row in rows] == [1] and (labels[:, 5:20, 5:20] == 1).all() and labels[:, :, 30:].max() == 0
    labels, rows = steps.label_and_measure(mask, probability, (30.0, 10.0, 10.0), rules, certain=range(6))
    assert len(rows) == 3 and ((labels > 0) == mask).all()
    assert rows[0]["mean_probability"] == 1


@pytest.fixture
def rng_volume():
    return np.random.default_rng(0).integers(1, 255, (11, 150, 180)).astype(np.uint8)
