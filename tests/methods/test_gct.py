"""GCT: its loss by hand, which network learns from which term, and that it learns."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import learning
import numpy as np
import pytest
from learning import example
from test_protocol import small, state_of

from dualrel_jax import config as config_lib
from dualrel_jax.errors import InputError
from dualrel_jax.methods import batching, create_method, losses
from dualrel_jax.methods.base import unet
from dualrel_jax.models import gct_flaws as flaws
from dualrel_jax.models.unet import UNetOutput
from dualrel_jax.training.state import params_of, with_params

SEGMENTERS = ("left", "right")
TERMS = ("supervised", "correction", "consistency", "detector")
STEPS = 20


def build(stem=2, **fields):
    config = small("gct", stem)
    config.train.update({"steps": STEPS, "learning_rate": 5e-2})
    config.method.update({"detector_width": 4, **fields})
    method = create_method(config_lib.resolve(config))
    return method, config, *state_of(method, config)


@functools.cache
def built():
    return build(detector_rate=1e-2)


@functools.cache
def loss_and_gradient():
    """Compiled once for all tests."""
    return learning.loss_and_gradient(built()[0])


def test_loss_by_hand():
    method, config, _, state = built()
    data = example()
    data = data._replace(label=data.label.at[:, :3].set(losses.IGNORE))
    images = jnp.concatenate([data.image, data.strong[0]])
    valid = np.concatenate([np.asarray(data.label != losses.IGNORE), np.ones((4, 16, 16))])

    detect = jax.jit(lambda p: method.detect(state.variables["detector"], images, p))
    segment = jax.jit(lambda v: jax.nn.softmax(unet(config.model).apply(v, images).logits))
    p = [segment(state.variables[name]) for name in SEGMENTERS]
    found = [np.asarray(detect(q)) for q in p]
    handled = [np.asarray(flaws.handle(f, 0.1)) for f in found]
    both = (handled[0] > 0.6) & (handled[1] > 0.6)
    assert both.any()
    expected = {"detector": 0.0, "correction": 0.0, "consistency": 0.0}
    for own, other in ((0, 1), (1, 0)):
        truth = flaws.ground_truth(p[own][:4], data.label, 0.5, 1)
        expected["detector"] += np.sum((found[own][:4] - truth) ** 2 * valid[:4]) / valid[:4].sum() / 2
        expected["correction"] += np.sum(both * found[own] ** 2 * valid) / valid.sum()
        target = flaws.consistency_target(p[own], p[other], handled[own], handled[other], 0.6)
        expected["consistency"] += np.sum((p[own] - target) ** 2 * valid[..., None]) / valid.sum() / 2

    params, loss = params_of(state.variables), loss_and_gradient()
    (total, (terms, _)), _ = jax.device_get(loss(params, state.variables, data, jnp.int32(STEPS)))
    for name, value in expected.items():
        assert terms[f"loss_{name}"] == pytest.approx(float(value), rel=1e-3) and value > 1e-6, name
    parts = terms["loss_supervised"] + expected["correction"] + 100 * expected["consistency"]
    assert total == pytest.approx(float(parts + 10 * expected["detector"]), rel=1e-3)
    (_, (terms, _)), _ = loss(params, state.variables, data, jnp.int32(0))
    assert float(terms["consistency_weight"]) == pytest.approx(100 * np.exp(-5), rel=1e-4)


def test_each_network_learns_from_its_own_terms_alone():
    method, _, _, state = built()

    def terms(params):
        _, (found, _) = method.loss(with_params(state.variables, params), None, example(), jax.random.key(0), 5)
        return jnp.stack([found[f"loss_{name}"] for name in TERMS])

    jacobian = jax.jit(jax.jacrev(terms))(params_of(state.variables))
    for i, term in enumerate(TERMS):
        learning = {name for name in method.networks if any(np.any(t[i]) for t in jax.tree.leaves(jacobian[name]))}
        assert learning == ({"detector"} if term == "detector" else set(SEGMENTERS)), term


class Fixed(nn.Module):
    """One learned logit a pixel, whatever the image."""

    @nn.compact
    def __call__(self, image, train=False):
        return UNetOutput(self.param("logits", nn.initializers.normal(), (*image.shape[:3], 2)), ())


def test_ignored_pixels_count_nowhere():
    method, _, _, _ = build(correction_weight=0.0)  # the detector sees them, but is not judged there
    method.networks.update({"left": Fixed(), "right": Fixed()})
    data = example()
    data = data._replace(label=data.label.at[:, :5].set(losses.IGNORE))
    images, part = batching.join(data.image, data.strong[0])
    variables = jax.jit(method.init)(jax.random.key(0), images)

    def loss(left):
        return method.loss({**variables, "left": {"params": left}}, None, data, jax.random.key(0), 10**6)[0]

    labelled, unlabelled = part(jax.jit(jax.grad(loss))(variables["left"]["params"])["logits"])
    assert not np.any(labelled[:, :5])
    assert np.all(labelled[:, 5:]) and np.any(unlabelled)


def test_batch_statistics_of_the_detector_move_once_for_each_network():
    method, _, _, state = build(stem=1)  # then its first layer reads the images as they are
    _, (_, variables) = jax.jit(method.loss)(state.variables, None, example(), jax.random.key(0), 5)
    images = jnp.concatenate([example().image, example().strong[0]])
    detector = method.networks["detector"]
    first = nn.Conv(detector.width, (4, 4), 2, use_bias=False)
    mean = 0.0
    for name in SEGMENTERS:
        logits = jax.jit(method.networks[name].apply)(state.variables[name], images).logits
        seen = jnp.concatenate([images, jax.nn.softmax(logits)], axis=-1)
        x = first.apply({"params": state.variables["detector"]["params"]["Conv_0"]}, seen)[..., : detector.width // 2]
        mean = 0.9 * mean + 0.1 * x.mean(axis=(0, 1, 2))
    found = variables["detector"]["batch_stats"]["IBNorm_0"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(found, mean, rtol=1e-3, atol=1e-5)


def test_it_learns_and_its_detector_too():
    _, _, optimizer, state = built()
    found = learning.diagnostics_of_steps(loss_and_gradient(), optimizer, state, STEPS)
    seen = [[step["loss_supervised"], step["loss_detector"]] for step in found]
    assert np.all(np.mean(seen[-3:], axis=0) < 0.7 * np.mean(seen[:3], axis=0))


@pytest.mark.slow
def test_four_devices_find_the_same_loss_and_gradient_as_one():
    learning.check_four_devices_as_one(loss_and_gradient(), built()[3], STEPS)


def test_predictions_are_those_of_the_left_and_right_network():
    method, _, _, state = built()
    outputs = jax.jit(method.predict)(state.variables, example().image)
    assert set(outputs) == {"default", "head", "right", "mean"}
    np.testing.assert_array_equal(outputs["default"], outputs["head"])
    np.testing.assert_allclose(outputs["mean"], (outputs["head"] + outputs["right"]) / 2, rtol=1e-6)
    assert np.abs(outputs["head"] - outputs["right"]).max() > 0.01


def test_detector_has_an_adam_of_its_own_that_falls_to_zero():
    method, config, _, _ = build()
    optimizer = method.optimizers(config.train)["detector"]
    params = jnp.ones(1)
    state, sizes = optimizer.init(params), []
    for _ in range(STEPS):
        update, state = optimizer.update(params, state)  # a constant gradient: Adam moves by the learning rate
        sizes.append(-float(update[0]))
    np.testing.assert_allclose(sizes, 1e-4 * (1 - np.arange(STEPS) / STEPS) ** 0.9, rtol=1e-3)


@pytest.mark.parametrize(
    ("fields", "expected"), [({"detector_width": 1}, "2 to 1,024, or 0"), ({"detector_cells": 0}, "1 to 1,024")]
)
def test_a_detector_too_small_is_refused_in_a_sentence(fields, expected):
    with pytest.raises(InputError, match=f"expected {expected}"):
        build(**fields)
