"""CCT: its loss by hand, who learns from it, and that it learns."""

import functools

import jax
import jax.numpy as jnp
import learning
import numpy as np
import pytest
from learning import example
from test_protocol import small, state_of

from dualrel_jax import config as config_lib
from dualrel_jax.errors import InputError
from dualrel_jax.methods import create_method, losses
from dualrel_jax.methods.base import unet
from dualrel_jax.methods.cct import KINDS
from dualrel_jax.models.cct_perturbations import AuxiliaryDecoder
from dualrel_jax.training.state import params_of

STEPS = 20
ONE_EACH = dict.fromkeys((f"num_{kind}" for kind in KINDS), 1)
MASKS_ALONE = {**dict.fromkeys(ONE_EACH, 0), "num_context": 1, "num_object": 2}


def build(**fields):
    config = small("cct")
    config.train.update({"steps": STEPS, "learning_rate": 5e-2})
    config.method.update({**ONE_EACH, **fields})
    method = create_method(config_lib.resolve(config))
    return method, config, *state_of(method, config)


@functools.cache
def built():
    return build()


@functools.cache
def loss_and_gradient():
    """Compiled once for all tests."""
    return learning.loss_and_gradient(built()[0])


def softmax(logits):
    e = np.exp(np.asarray(logits) - np.max(logits, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_loss_is_the_squared_error_of_each_auxiliary_decoder_to_the_main_one():
    method, config, _, state = build(**MASKS_ALONE, consistency_weight=7.0)
    params = state.variables["student"]["params"]
    data = example()
    main = jax.jit(unet(config.model).apply)({"params": params["unet"]}, data.strong[0])
    target, z = softmax(main.logits), np.asarray(main.features[-1])
    foreground = target[:, 2::4, 2::4, 1:] > 0.5  # nearest at a quarter of the size: the third of four
    assert 0.02 < foreground.mean() < 0.98
    one = AuxiliaryDecoder(config.model.depth - 1, config.method.auxiliary_width, jnp.float32, config.model.stem)
    errors, decode = [], jax.jit(one.apply)
    for j, mask in enumerate((foreground, ~foreground, ~foreground)):
        own = {"params": jax.tree.map(lambda leaf, j=j: leaf[j], params["auxiliary"])}
        errors.append(np.mean((softmax(decode(own, z * mask)) - target) ** 2))
    assert abs(errors[1] - errors[2]) > 1e-6  # the decoders differ

    loss = jax.jit(method.loss)
    total, (found, _) = loss(state.variables, state.teacher, data, jax.random.key(0), 10**6)
    found = jax.device_get(found)
    assert found["loss_consistency"] == pytest.approx(np.mean(errors), rel=1e-3)
    logits = jax.jit(unet(config.model).apply)({"params": params["unet"]}, data.image).logits
    assert found["loss_supervised"] == pytest.approx(float(losses.supervised(logits, data.label)), rel=1e-4)
    assert float(total) == pytest.approx(found["loss_supervised"] + 7 * np.mean(errors), rel=1e-3)
    _, (found, _) = loss(state.variables, state.teacher, data, jax.random.key(0), 0)
    assert float(found["consistency_weight"]) == pytest.approx(7 * np.exp(-5), rel=1e-4)


def test_auxiliary_branches_teach_the_encoder_and_never_the_main_decoder():
    """The main decoder is their target. At two steps the loss differs in the weight of the consistency alone."""
    state = built()[3]
    params, gradients, weights = params_of(state.variables), [], []
    for step in (0, STEPS):
        (_, (found, _)), gradient = loss_and_gradient()(params, state.variables, example(), jnp.int32(step))
        weights.append(float(found["consistency_weight"]))
        gradients.append(jax.device_get(gradient["student"]))
    early, late = gradients
    jax.tree.map(np.testing.assert_array_equal, early["unet"]["decoder"], late["unet"]["decoder"])
    changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), early["unet"]["encoder"], late["unet"]["encoder"])
    assert all(change > 1e-4 for change in jax.tree.leaves(changes))
    for a, b in zip(jax.tree.leaves(early["auxiliary"]), jax.tree.leaves(late["auxiliary"]), strict=True):
        np.testing.assert_allclose(a * weights[1] / weights[0], b, rtol=1e-3, atol=1e-5)  # from nothing else
        assert np.any(b.reshape(len(b), -1), axis=1).all()  # every decoder


def test_every_decoder_sees_features_perturbed_in_its_own_way():
    method, _, _, state = build(num_noise=2)
    output = jax.jit(method.networks["student"].apply)(state.variables["student"], example().image)
    perturb = jax.jit(method.perturb)
    z = output.features[-1]
    seen = np.asarray(perturb(jax.random.key(0), z, output.logits))
    assert seen.shape == (len(KINDS) + 1, *z.shape)
    for i, one in enumerate(seen):
        assert all(np.abs(one - other).max() > 1e-3 for other in (*seen[:i], z))
    again = np.asarray(perturb(jax.random.key(0), z, output.logits))
    np.testing.assert_array_equal(seen, again)


def test_prediction_is_that_of_the_main_decoder():
    method, config, _, state = build()
    image = example().image
    alone = {"params": state.variables["student"]["params"]["unet"]}
    logits = jax.jit(unet(config.model).apply)(alone, image).logits
    found = jax.jit(method.predict)(state.variables, image)["default"]
    np.testing.assert_allclose(found, softmax(logits)[..., 1], rtol=1e-5)


def test_it_learns():
    _, _, optimizer, state = built()
    found = learning.diagnostics_of_steps(loss_and_gradient(), optimizer, state, STEPS)
    seen = [step["loss_supervised"] for step in found]
    assert np.mean(seen[-3:]) < 0.7 * np.mean(seen[:3])


@pytest.mark.slow
def test_four_devices_find_the_same_loss_and_gradient_as_one():
    learning.check_four_devices_as_one(loss_and_gradient(), built()[3], STEPS)


def test_without_auxiliary_decoders_it_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="expected 1 or more for one of them"):
        build(**dict.fromkeys(ONE_EACH, 0))
