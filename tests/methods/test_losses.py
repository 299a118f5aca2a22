"""Losses and schedules against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dualrel_jax.methods import losses, ramps
from dualrel_jax.training import schedules

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(2, 4, 5, 2)), jnp.float32)
LABEL = jnp.asarray(RNG.choice([0, 1, losses.IGNORE], size=(2, 4, 5)), jnp.int32)


def probabilities():
    e = np.exp(np.asarray(LOGITS))
    return e / e.sum(-1, keepdims=True)


def test_supervised_loss_is_cross_entropy_and_dice_over_the_pixels_that_count():
    p, label = probabilities(), np.asarray(LABEL)
    counts = label != losses.IGNORE
    cross_entropy = -np.log(np.where(label == 1, p[..., 1], p[..., 0]))[counts].mean()
    overlap = (p[..., 1] * (label == 1))[counts].sum()
    dice = 2 * overlap / (np.square(p[..., 1])[counts].sum() + (label == 1).sum())
    np.testing.assert_allclose(losses.supervised(LOGITS, LABEL), (cross_entropy + 1 - dice) / 2, rtol=1e-4)


def test_two_classes_are_softmax_and_cross_entropy_however_sure_the_network_is():
    sure = np.array([-90.0, 90.0]) * np.array([1.0, -1.0])[:, None, None, None] + np.zeros((2, 4, 5, 2))
    logits = jnp.asarray(np.concatenate([LOGITS, 5 * LOGITS, sure]), jnp.float32)
    label = jnp.tile((LABEL == 1).astype(jnp.int32), (3, 1, 1))

    def expected(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, label)

    np.testing.assert_allclose(losses.cross_entropy(logits, label), expected(logits), rtol=1e-6, atol=1e-6)
    gradients = (
        jax.grad(lambda logits, f=f: f(logits).sum())(logits)
        for f in (expected, lambda logits: losses.cross_entropy(logits, label))
    )
    np.testing.assert_allclose(*gradients, atol=1e-6)
    np.testing.assert_allclose(losses.softmax(logits), jax.nn.softmax(logits), atol=1e-6)


def test_ignored_pixels_carry_no_gradient():
    gradient = jax.grad(losses.supervised)(LOGITS, LABEL)
    ignored = np.asarray(LABEL) == losses.IGNORE
    assert not np.any(gradient[ignored])
    assert np.all(np.any(np.asarray(gradient)[~ignored] != 0, axis=-1))


def test_masked_mean_has_an_explicit_denominator_and_no_nan_without_pixels():
    values = jnp.array([[1.0, 5.0], [3.0, 7.0]])
    assert losses.masked_mean(values, jnp.array([[1, 0], [1, 0]])) == 2
    assert losses.masked_mean(values) == 4
    assert losses.masked_mean(values, jnp.zeros((2, 2))) == 0
    assert losses.masked_mean(values.astype(jnp.bfloat16)).dtype == jnp.float32


def test_masked_mean_of_weights_that_sum_to_less_than_one_is_still_the_mean():
    values = jnp.array([[1.0, 5.0], [3.0, 7.0]])
    np.testing.assert_allclose(losses.masked_mean(values, jnp.full((2, 2), 1e-3)), 4, rtol=1e-6)
    np.testing.assert_allclose(losses.masked_mean(values, jnp.array([[1e-30, 0], [0, 0]])), 1, rtol=1e-6)
    assert not np.any(jax.grad(losses.masked_mean)(values, jnp.zeros((2, 2))))


def test_squared_error_does_not_move_the_target():
    gradient = jax.grad(lambda target: losses.squared_error(LOGITS, target).sum())(LOGITS + 1)
    assert not np.any(gradient)
    np.testing.assert_allclose(losses.squared_error(LOGITS, LOGITS + 1), np.ones((2, 4, 5)), rtol=1e-5)


def test_ramp_rises_from_nearly_zero_to_one_and_stays():
    ramp = [float(ramps.sigmoid_ramp(jnp.int32(t), 10)) for t in (0, 5, 10, 20)]
    np.testing.assert_allclose(ramp, [np.exp(-5), np.exp(-1.25), 1, 1], rtol=1e-5)
    assert ramps.sigmoid_ramp(jnp.int32(0), 0) == 1


def test_learning_rate_warms_up_and_ends_at_zero():
    rate = schedules.learning_rate(1.0, 50, 200)
    assert [float(rate(0)), float(rate(200))] == [0, 0]
    np.testing.assert_allclose(rate(20), 1.0)  # a tenth of a short run
    assert float(schedules.learning_rate(1.0, 50, 1)(0)) >= 0


def test_the_teachers_memory_grows_with_the_training():
    np.testing.assert_allclose(schedules.ema_decay(0.02, 1000), 0.95)
    assert schedules.ema_decay(0.02, 6) == 0  # shorter than a step: the student itself
