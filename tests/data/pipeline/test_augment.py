"""Augmentation: image and label move together, views share their geometry, strengths are what the config says."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import dualrel_jax
from dualrel_jax.data.pipeline import augment
from dualrel_jax.data.pipeline.augment import Batch, RawBatch

OFF = {"filter": 0.0, "curve": 0.0, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "blur_px": 0.0, "noise": 0.0}


def config(**fields):
    config = dualrel_jax.get_config("supervised:phantom,1/32").augment
    config.update({"scale": (1.0, 1.0), **fields})
    return config


def smooth(n, size, sigma):
    """n smooth images y x, uint8, from black to white."""
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(n, size, size)), (0, sigma, sigma))
    low, high = field.min(axis=(1, 2), keepdims=True), field.max(axis=(1, 2), keepdims=True)
    return np.rint(255 * (field - low) / (high - low)).astype(np.uint8)


def symmetries(image):
    """The 8 mirrored quarter turns of y x."""
    return [np.rot90(mirrored, turns) for mirrored in (image, image.T) for turns in range(4)]


def augmented(key, raw, fields, patch) -> Batch:
    step = jax.jit(lambda key, raw: augment.augment_batch(key, raw, fields, patch, strong_views=1))
    return jax.tree.map(np.asarray, step(key, raw))


def as_grey(image):
    """Undoes `normalise`: b y x 1 -> b y x in 0..1."""
    return image[..., 0] * 0.25 + 0.5


# ---------------------------------------------------------------------------------------------------------------------
# Geometry
# ---------------------------------------------------------------------------------------------------------------------


def test_turn_gives_each_of_the_8_symmetries_and_nothing_else():
    image = np.arange(9).reshape(3, 3)
    turned = jax.vmap(augment.turn, (0, None))(jax.random.split(jax.random.key(0), 400), image)
    seen, times = np.unique(turned, axis=0, return_counts=True)
    assert {x.tobytes() for x in seen} == {x.astype(seen.dtype).tobytes() for x in symmetries(image)}
    assert times.min() > 25  # 50 expected


def test_image_label_and_views_move_together_under_zoom_elastic_deformation_and_turns():
    fields, patch = config(scale=(0.7, 1.5), elastic_px=1.5, elastic_grid_px=8, **OFF), 32
    crops = smooth(8, patch + 2 * augment.margin(fields, patch), sigma=5)
    label = np.select([crops > 170, crops > 120], [255, 1], 0).astype(np.uint8)  # 255: ignore
    batch = augmented(jax.random.key(1), RawBatch(crops, label, crops), fields, patch)

    assert batch.image.shape == batch.weak.shape == (8, patch, patch, 1) and batch.label.shape == (8, patch, patch)
    assert batch.strong.shape == (1, 8, patch, patch, 1)
    grey = 255 * as_grey(batch.image)
    expected = np.select([grey > 170, grey > 120], [255, 1], 0)
    # The label is read at the nearest pixel, the image between pixels: they may differ where a threshold is within a
    # pixel, and there alone.
    step = np.abs(np.stack(np.gradient(grey, axis=(1, 2)))).sum(axis=0)
    step = ndimage.maximum_filter(step, (1, 3, 3))
    clear = (np.abs(grey - 170) > step) & (np.abs(grey - 120) > step)
    assert clear.mean() > 0.5
    assert np.array_equal(batch.label[clear], expected[clear])
    assert set(np.unique(batch.label)) == {0, 1, 255} == set(np.unique(batch.label[clear]))
    # Nothing photometric: the strong view is the weak view, and neither is the crop's centre left as it was.
    assert np.allclose(batch.strong, batch.weak, atol=0.02)
    margin = (crops.shape[1] - patch) // 2
    centre = np.s_[margin : margin + patch, margin : margin + patch]
    for seen, crop in zip(255 * as_grey(batch.weak), crops, strict=True):
        assert min(np.abs(seen - x).mean() for x in symmetries(crop[centre])) > 2


@pytest.mark.parametrize("zoom", [2.0, 0.5, 1.3])
def test_zoom_is_about_the_centre_and_reads_nothing_beyond_the_crop(zoom):
    fields, patch = config(scale=(zoom, zoom), flips=False), 8
    crop = patch + 2 * augment.margin(fields, patch)
    across = np.broadcast_to(np.arange(crop, dtype=np.float32), (crop, crop))
    seen, label = augment.deform(jax.random.key(0), jnp.asarray(across), None, fields, patch)
    assert label is None
    expected = (np.arange(patch) - (patch - 1) / 2) / zoom + (crop - 1) / 2
    assert np.allclose(seen, np.broadcast_to(expected, (patch, patch)), atol=1e-4)


@pytest.mark.parametrize("side", [7, 16])
@pytest.mark.parametrize("zoom", [0.21, 0.5, 1.3, 3.0])
def test_squares_are_zoomed_about_their_centre_and_mirrored_where_they_end(zoom, side):
    image = np.random.default_rng(side).normal(size=(side, side, 2)).astype(np.float32)
    at = (np.arange(side) - (side - 1) / 2) / zoom + (side - 1) / 2
    where = np.stack(np.meshgrid(at, at, indexing="ij"))
    expected = [ndimage.map_coordinates(image[..., c], where, order=1, mode="reflect") for c in range(2)]
    seen = augment.zoom_each(jnp.array([zoom, 1.0], jnp.float32), jnp.stack([image, image]))
    np.testing.assert_allclose(seen[0], np.stack(expected, axis=-1), atol=2e-3)
    np.testing.assert_allclose(seen[1], image, atol=1e-6)


@given(low=st.floats(0.2, 3), ratio=st.floats(1, 3), elastic=st.floats(0, 9), patch=st.integers(8, 512))
def test_the_crop_leaves_room_for_zoom_and_elastic_deformation(low, ratio, elastic, patch):
    fields = config(scale=(low, low * ratio), elastic_px=elastic)
    furthest = (patch - 1) / 2 / low + 2 * elastic  # from the centre, at two standard deviations
    assert augment.margin(fields, patch) >= max(0, furthest - (patch - 1) / 2 - 1e-6)
    assert augment.margin(config(scale=(1.0, 1.0)), patch) == 0


# ---------------------------------------------------------------------------------------------------------------------
# Views and randomness
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def views():
    """Eight times the same crop, augmented with the fields of the config, under two keys."""
    crops = np.repeat(smooth(1, 12, sigma=1.5), 8, axis=0)
    raw = RawBatch(crops, (crops > 128).astype(np.uint8), crops)
    step = jax.jit(lambda key: augment.augment_batch(key, raw, config(), 12, 2))
    return raw, *(jax.tree.map(np.asarray, step(jax.random.key(seed))) for seed in (0, 0, 1))


def test_the_weak_view_is_the_turned_crop_and_strong_views_are_the_same_pixels_otherwise(views):
    raw, batch, _, _ = views
    changed = []
    for i, weak in enumerate(as_grey(batch.weak)):
        turned = symmetries(raw.unlabelled[i] / 255)
        fits = [np.allclose(weak, x, atol=1e-5) for x in turned]
        assert sum(fits) == 1
        for view in as_grey(batch.strong)[:, i]:
            likeness = [np.corrcoef(view.ravel(), x.ravel())[0, 1] for x in turned]
            assert np.argmax(likeness) == fits.index(True)
            changed.append(np.abs(view - weak).mean())
    assert np.mean(changed) > 0.05


def test_label_follows_the_labelled_crop_through_turns(views):
    raw, batch, _, _ = views
    assert batch.label.dtype == np.int32 and np.isfinite(batch.image).all()
    for image, label in zip(as_grey(batch.image), batch.label, strict=True):
        fits = [np.array_equal(label, x) for x in symmetries(raw.label[0])]
        likeness = [np.corrcoef(image.ravel(), x.ravel())[0, 1] for x in symmetries(raw.image[0])]
        assert sum(fits) == 1 and np.argmax(likeness) == fits.index(True)


def test_the_key_decides_and_each_crop_and_view_has_its_own_numbers(views):
    _, batch, again, other = views
    assert all(np.array_equal(a, b) for a, b in zip(batch, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(batch, other, strict=True))
    # The crops are all the same; what tells their views apart is augmentation.
    pixels = np.concatenate([as_grey(batch.image), *as_grey(batch.strong)])
    histograms = np.sort(pixels.reshape(len(pixels), -1), axis=1)  # blind to turns
    assert len(np.unique(histograms.round(4), axis=0)) == 24
    assert len(np.unique(batch.weak, axis=0)) > 2 and len(np.unique(batch.label, axis=0)) > 2


def test_training_sees_what_prediction_sees_where_all_is_off():
    crops = np.random.default_rng(0).permutation(256)[:128].reshape(2, 8, 8).astype(np.uint8)
    crops[:, 0, :2] = 0, 255
    raw = RawBatch(crops, crops // 128, crops)
    batch = augmented(jax.random.key(0), raw, config(flips=False, weak=1.0, **OFF), 8)
    assert np.allclose(batch.weak, augment.to_float(jnp.asarray(crops)), atol=0.005)
    assert np.allclose(batch.image, batch.weak, atol=1e-5) and np.array_equal(batch.label, crops // 128)
    assert (batch.image.min(), batch.image.max()) == pytest.approx((-2, 2), abs=0.005)


def test_a_method_without_unlabelled_crops():
    crops = np.zeros((2, 8, 8), np.uint8)
    raw = RawBatch(crops, crops, np.zeros((0, 8, 8), np.uint8))
    batch = jax.eval_shape(lambda key, raw: augment.augment_batch(key, raw, config(), 8, 0), jax.random.key(0), raw)
    assert batch.image.shape == (2, 8, 8, 1) and batch.label.shape == (2, 8, 8)
    assert batch.weak.shape == (0, 8, 8, 1) and batch.strong.shape == (1, 0, 8, 8, 1)


# ---------------------------------------------------------------------------------------------------------------------
# Photometry
# ---------------------------------------------------------------------------------------------------------------------

IMAGE = np.random.default_rng(0).uniform(0.3, 0.6, (16, 16)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 64)


@jax.jit
def photometric(fields):
    """IMAGE under 64 keys, not blurred; compiled once for all strengths."""
    fields = SimpleNamespace(**fields, blur_px=0.0, filter=0.0, curve=0.0)
    return jax.vmap(lambda key: augment.photometric(key, IMAGE, fields, 1.0))(KEYS)


def changed(**fields):
    strengths = {"brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "noise": 0.0, "probability": 1.0}
    return np.asarray(photometric({**strengths, **fields}))


def test_strength_scales_every_change_down_to_none():
    apply = jax.jit(jax.vmap(lambda key, s: augment.photometric(key, IMAGE, config(), s), (0, None)))
    none, some, full = (np.abs(np.asarray(apply(KEYS, s)) - IMAGE) for s in (0.0, 0.3, 1.0))
    assert none.max() < 1e-5
    assert 0.1 * full.mean() < some.mean() < 0.5 * full.mean()


def test_brightness_contrast_and_gamma_stay_within_their_ranges():
    mean = IMAGE.mean()
    offset = changed(brightness=0.25) - IMAGE
    assert np.ptp(offset, axis=(1, 2)).max() < 1e-5
    factor = (changed(contrast=0.5) - mean) / (IMAGE - mean)
    exponent = np.log(changed(gamma=0.5)) / np.log(IMAGE)
    for drawn, low, high in ((offset, -0.25, 0.25), (factor, 1 / 1.5, 1.5), (exponent, 1 / 1.5, 1.5)):
        drawn = np.median(drawn, axis=(1, 2))
        span = high - low
        assert low - 1e-3 <= drawn.min() < low + 0.15 * span and high - 0.15 * span < drawn.max() <= high + 1e-3


def test_noise_has_at_most_its_deviation_and_comes_with_its_probability():
    noise = changed(noise=0.1, probability=0.6) - IMAGE
    deviation = noise.std(axis=(1, 2))
    assert 0.07 < deviation.max() < 0.12
    assert 0.4 < (deviation > 1e-5).mean() < 0.8


SMOOTH = ndimage.gaussian_filter(np.random.default_rng(0).normal(0.5, 1, (64, 64)), 3).astype(np.float32)


def seen_otherwise(image, **settings):
    """The image under 64 keys."""
    settings = SimpleNamespace(**{"filter": 0.0, "curve": 0.0, "probability": 1.0, **settings})
    return np.asarray(jax.vmap(lambda key: augment.as_another_microscope(key, image, settings, 1.0))(KEYS))


@pytest.mark.parametrize("name", ["filter", "curve"])
def test_another_microscope_keeps_mean_and_contrast_and_comes_with_its_probability(name):
    seen = seen_otherwise(SMOOTH, **{name: 0.2})
    assert np.allclose(seen.mean(axis=(1, 2)), SMOOTH.mean(), atol=1e-3)
    assert np.allclose(seen.std(axis=(1, 2)), SMOOTH.std(), rtol=1e-2)
    sometimes = np.abs(seen_otherwise(SMOOTH, probability=0.6, **{name: 0.2}) - SMOOTH).max(axis=(1, 2)) > 1e-3
    assert 0.4 < sometimes.mean() < 0.8


def test_a_curve_of_the_greys_rises():
    """What is darker stays darker: mitochondria are told from their surroundings by that."""
    order = np.argsort(SMOOTH, axis=None)
    for seen in seen_otherwise(SMOOTH, curve=0.8):
        assert np.diff(seen.flat[order]).min() > -1e-5


def test_a_crop_of_one_grey_stays_as_it_is():
    plain = np.full((16, 16), 0.4, np.float32)
    assert np.allclose(seen_otherwise(plain, filter=0.1, curve=0.8), 0.4, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.0, 0.6, 1.2, 2.0])
def test_blur_is_gaussian(sigma):
    blurred = jax.jit(augment.blur, static_argnums=2)(IMAGE, sigma, 2.0)
    expected = ndimage.gaussian_filter(IMAGE, sigma, mode="mirror", radius=5) if sigma else IMAGE
    assert np.allclose(blurred, expected, atol=1e-5)
    inside = np.s_[4:-4, 4:-4]
    exact = ndimage.gaussian_filter(IMAGE, sigma) if sigma else IMAGE  # cut at 4 sigma
    assert np.allclose(np.asarray(blurred)[inside], exact[inside], atol=0.002)
