"""Mean Teacher, CPS and UniMatch: their losses by hand, who learns from what, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_protocol import OneBatch, batch, gradient_of, small, state_of

from dualrel_jax.data.pipeline.augment import RawBatch
from dualrel_jax.methods import create_method
from dualrel_jax.train import make_train_step
from dualrel_jax.utils import sharding


def build(name, stem=2, **fields):
    config = small(name, stem)
    config.method.update(fields)
    method = create_method(config)
    return method, config, *state_of(method, config)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def terms_of(method, state, data, step=10**6):
    loss = jax.jit(method.loss)
    total, (diagnostics, _) = loss(state.variables, state.teacher, data, jax.random.key(3), jnp.int32(step))
    return {**{name: float(value) for name, value in diagnostics.items()}, "total": float(total)}


def probability(network, variables, image):
    """b y x 2 of a network."""
    return softmax(np.asarray(jax.jit(network.apply)(variables, image).logits))


def with_other_teacher(method, state):
    """The state with a teacher that is not its student."""
    noise = lambda x: x + 0.3 * jax.random.normal(jax.random.key(9), x.shape)  # noqa: E731
    return state.replace(teacher=jax.tree.map(noise, state.teacher))


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mean_teacher", "cps", "cps_cutmix", "rankmatch")),
        "unimatch",
    ],
)
def test_loss_falls_and_no_gradient_reaches_the_teacher(name):
    method, config, optimizer, state = build(name, stem=1)
    _, to_teacher = gradient_of(method, state, batch(method.strong_views))
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(to_teacher))

    rng = np.random.default_rng(0)
    # A learnable picture: dark where the label is set.
    label = np.kron(rng.random((4, 4, 4)) < 0.3, np.ones((4, 4))).astype(np.uint8)
    image = (150 - 90 * label + rng.normal(0, 10, label.shape)).clip(0, 255).astype(np.uint8)
    feed = OneBatch(RawBatch(jnp.asarray(image), jnp.asarray(label), jnp.asarray(image[::-1].copy())))
    mesh = sharding.create_mesh(1)
    step = make_train_step(method, optimizer, feed, config, mesh)
    state = jax.device_put(state, sharding.replicated(mesh))  # where steps leave it: compiled once
    seen = []
    for _ in range(10):
        state, diagnostics = step(state, next(feed))
        seen.append(float(diagnostics["loss_supervised"]))
    assert np.mean(seen[-3:]) < 0.95 * np.mean(seen[:3])
    assert {"loss", "loss_supervised", "consistency_weight"} <= set(diagnostics)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean_teacher", "cps_cutmix", "unimatch", "rankmatch"])
def test_four_devices_take_the_same_step_as_one(name):
    results = []
    for devices in (1, 4):
        method, config, optimizer, state = build(name)
        rng = np.random.default_rng(0)
        raw = RawBatch(*(jnp.asarray(rng.integers(0, high, (4, 16, 16)), jnp.uint8) for high in (255, 2, 255)))
        step = make_train_step(method, optimizer, OneBatch(raw), config, sharding.create_mesh(devices))
        state, diagnostics = step(state, raw)
        results.append(jax.device_get((diagnostics["loss"], state.variables)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), *results)


def test_mean_teacher_is_the_squared_error_to_the_teacher():
    method, _, _, state = build("mean_teacher", consistency_weight=7.0)
    state, data = with_other_teacher(method, state), batch()
    network = method.networks["student"]
    student = probability(network, state.variables["student"], data.strong[0])
    teacher = probability(network, state.teacher["student"], data.weak)
    found = terms_of(method, state, data)
    error = np.mean((student - teacher) ** 2)
    assert found["loss_consistency"] == pytest.approx(error, rel=1e-4) and error > 1e-4
    assert found["total"] == pytest.approx(found["loss_supervised"] + 7 * error, rel=1e-4)
    assert terms_of(method, state, data, step=0)["consistency_weight"] == pytest.approx(7 * np.exp(-5), rel=1e-4)


def test_cps_is_the_cross_entropy_with_the_others_hard_labels_on_all_pixels():
    method, _, _, state = build("cps", consistency_weight=2.0)
    data = batch()
    images = np.concatenate([data.image, data.strong[0]])
    p = {n: probability(method.networks[n], state.variables[n], images) for n in ("left", "right")}
    cross = 0.0
    for own, other in (("left", "right"), ("right", "left")):
        hard = p[other][..., 1] > 0.5
        cross += -np.log(np.where(hard, p[own][..., 1], p[own][..., 0])).mean()
    found = terms_of(method, state, data)
    assert found["loss_cross"] == pytest.approx(cross, rel=1e-4)
    assert found["total"] == pytest.approx(found["loss_supervised"] + 2 * cross, rel=1e-4)


@pytest.mark.parametrize("name", ["cps", "cps_cutmix"])
def test_each_cps_network_learns_from_its_own_logits_alone(name):
    """The labels are hard, so each network's gradient is that of its own cross-entropy: none through its labels."""
    method, _, _, state = build(name, stem=1, consistency_weight=1.0)  # one bias per class in the last layer
    data = batch()

    def gradient_left(shift):
        """Gradient of the left network when the right network's labels are all background or all mitochondrion."""
        variables = jax.tree.map(lambda x: x, state.variables)
        bias = jnp.asarray([shift, -shift])
        variables["right"]["params"]["decoder"]["Conv_1"]["bias"] = bias
        found, _ = gradient_of(method, state.replace(variables=variables), data)
        return found["left"]["decoder"]["Conv_1"]["bias"]

    # All background pulls the left network's logit of background up, all mitochondrion that of mitochondrion.
    assert gradient_left(1e3)[0] < gradient_left(-1e3)[0] - 0.2


def test_cutmix_labels_are_those_of_the_clean_crops():
    """With both networks equal and perfectly consistent under pasting, mixing labels and mixing images agree."""
    method, _, _, state = build("cps_cutmix")
    data = batch()
    flat = data._replace(strong=jnp.broadcast_to(data.strong[:, :1], data.strong.shape))  # four times the same crop
    found = terms_of(method, state, flat)
    same = build("cps")[0]
    without = terms_of(same, state, flat._replace(image=flat.strong[0], label=flat.label))
    # Pasting a crop into itself changes nothing: the cross term is that of plain CPS on these crops.
    assert found["loss_cross"] == pytest.approx(without["loss_cross"], rel=1e-4)


def test_unimatch_weights_its_four_terms_as_published():
    method, _, _, state = build("unimatch", confidence=0.5, cutmix_probability=0.0, channel_dropout=0.0)
    data = batch(2)
    found = terms_of(method, state, data)
    network, variables = method.networks["student"], state.variables["student"]
    weak = probability(network, variables, data.weak)
    label = weak[..., 1] > 0.5

    def dice(image):
        """Of both classes, as the authors' DiceLoss."""
        p = probability(network, variables, image)
        sides = [(p[..., 1], label), (p[..., 0], ~label)]
        return np.mean([1 - (2 * (q * y).sum() + 1e-5) / ((q**2).sum() + y.sum() + 1e-5) for q, y in sides])

    one, two, feature = dice(data.strong[0]), dice(data.strong[1]), dice(data.weak)
    assert found["loss_feature"] == pytest.approx(feature, rel=1e-3)
    expected = (found["loss_supervised"] + one / 4 + two / 4 + feature / 2) / 2
    assert found["total"] == pytest.approx(expected, rel=1e-3)


def test_unimatch_leaves_unsure_pixels_out_and_does_not_ask_the_teacher():
    method, _, _, state = build("unimatch", confidence=1.0)
    found = terms_of(method, state, batch(2))
    assert found["confident"] == 0 and found["loss_strong"] == found["loss_feature"] == 0
    method, _, _, state = build("unimatch", confidence=0.5)
    changed = with_other_teacher(method, state)
    assert terms_of(method, state, batch(2))["total"] == terms_of(method, changed, batch(2))["total"]


def test_unimatch_drops_channels_anew_for_each_image():
    method, _, _, state = build("unimatch", channel_dropout=0.5)
    image = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (1, 16, 16, 1)), (3, 16, 16, 1))
    network = method.networks["student"]
    views = [image[:1], image[1:]]
    decode = jax.jit(lambda v, key: network.apply(v, views, key, method="with_dropped_channels"))
    outputs = decode(state.variables["student"], jax.random.key(1))
    (first,), (second, third), broken = (output.logits for output in outputs)
    np.testing.assert_allclose(second, first, atol=1e-5)
    np.testing.assert_allclose(third, first, atol=1e-5)
    assert not np.allclose(broken[0], first, atol=1e-3) and not np.allclose(broken[0], broken[1], atol=1e-3)


def test_unimatch_learns_from_crops_that_are_surely_background():
    """Published: the Dice of both classes. That of mitochondria alone is flat where the label has none."""
    method, _, _, _ = build("unimatch")
    false_positive = jnp.zeros((1, 8, 8, 2)).at[:, :2, :4, 1].set(3.0).at[:, 2:, :, 0].set(6.0)
    target = jnp.stack([jnp.ones((1, 8, 8)), jnp.zeros((1, 8, 8))], axis=-1)
    gradient = jax.grad(lambda logits: method.pseudo_dice(logits, target))(false_positive)
    assert float(gradient[0, :2, :4, 1].min()) > 1e-4
