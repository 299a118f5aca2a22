"""The protocol carries several networks, optimisers and teachers; each learns only what it should."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.data.pipeline.augment import Batch, RawBatch
from dualrel_jax.errors import InputError
from dualrel_jax.methods import create_method, losses
from dualrel_jax.methods.base import Method, unet
from dualrel_jax.methods.dualrel import RAMPED, DualRel, StudentOutput, TeacherPredictions, cross_pseudo_label_loss
from dualrel_jax.models.prototypes import PrototypeOutput
from dualrel_jax.train import make_train_step
from dualrel_jax.training.state import create_optimizer, create_state, params_of, update_teacher, with_params
from dualrel_jax.utils import sharding


def small(method, stem=2):
    config = dualrel_jax.get_config(f"{method}:phantom,1/32")
    config.model.update({"stem": stem, "width": 4, "depth": 2, "dtype": "float32"})
    config.train.update({"crop_px": 16, "batch_labelled": 4, "batch_unlabelled": 4, "steps": 10, "optimizer": "adamw"})
    if method.startswith("dualrel"):
        config.method.update({"feature_level": 1, "num_prototypes": 4, "num_references": 8, "dim": 8})
    if method == "rankmatch":
        config.method.num_agents = 8
    return config_lib.resolve(config)


def batch(strong_views=1, seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    image, weak = (jax.random.normal(key, (4, 16, 16, 1)) for key in keys[:2])
    strong = jax.random.normal(keys[2], (strong_views, 4, 16, 16, 1))
    return Batch(image, jax.random.bernoulli(keys[3], 0.2, (4, 16, 16)).astype(jnp.int32), weak, strong)


class Detector(nn.Module):
    """Where is this prediction wrong? image b y x 1 and probability b y x 2 -> b y x."""

    @nn.compact
    def __call__(self, image, probability, train=False):
        x = nn.Conv(4, (3, 3))(jnp.concatenate([image, probability], axis=-1))
        return nn.Conv(1, (1, 1))(nn.relu(x))[..., 0]


class Collaborators(Method):
    """The shape of GCT and CPS: two segmenters that teach each other, and a detector with its own optimiser."""

    strong_views = 1

    def __init__(self, config):
        super().__init__(config)
        self.networks = {"left": unet(config.model), "right": unet(config.model), "detector": Detector()}

    def example_inputs(self, network, image):
        return (image, jnp.zeros((*image.shape[:3], 2))) if network == "detector" else (image,)

    def optimizers(self, train):
        return {"detector": optax.sgd(0.1)}

    def loss(self, variables, teacher, batch, rng, step):
        images = jnp.concatenate([batch.image, batch.strong[0]])
        outputs = {}
        for name in ("left", "right"):
            outputs[name], variables = self.apply_train(name, variables, images)
        left, right = outputs["left"].logits, outputs["right"].logits
        frozen = jax.lax.stop_gradient(variables["detector"])
        b = len(batch.image)
        total = 0.0
        for own, other in ((left, right), (right, left)):
            total += losses.supervised(own[:b], batch.label)
            total += losses.masked_mean(losses.cross_entropy(own, jax.lax.stop_gradient(other.argmax(-1))))
            total += jnp.mean(jnp.square(self.networks["detector"].apply(frozen, images, jax.nn.softmax(own))))
            seen = jax.lax.stop_gradient(jax.nn.softmax(own[:b]))
            flaws = self.networks["detector"].apply(variables["detector"], batch.image, seen)
            total += jnp.mean(jnp.square(flaws - jnp.abs(batch.label - seen[..., 1])))
        return total, ({"loss": total}, variables)


class OneBatch:
    """A feed that always gives the same crops."""

    def __init__(self, raw):
        self.raw = raw

    def __next__(self):
        return self.raw

    def crops(self, data, key):
        return data


def state_of(method, config):
    optimizer = create_optimizer(method, config.train)
    image = jnp.zeros((1, config.train.crop_px, config.train.crop_px, 1))
    key = jax.random.key(0, impl="rbg")
    return optimizer, jax.jit(lambda k: create_state(method, optimizer, k, image))(key)


def gradient_of(method, state, data):
    """Gradient of the loss by the parameters, and by the teacher."""

    def loss(params, teacher):
        return method.loss(with_params(state.variables, params), teacher, data, jax.random.key(0), jnp.int32(5))[0]

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(params_of(state.variables), state.teacher)


def test_three_networks_and_two_optimisers_train_in_the_one_loop():
    config = small("supervised")
    method = Collaborators(config)
    optimizer, state = state_of(method, config)
    assert not np.allclose(*(jax.tree.leaves(state.variables[name])[0] for name in ("left", "right")))
    before = jax.device_get(state.variables)
    rng = np.random.default_rng(0)
    feed = OneBatch(RawBatch(*(jnp.asarray(rng.integers(0, high, (4, 16, 16)), jnp.uint8) for high in (255, 2, 255))))
    mesh = sharding.create_mesh(1)
    step = make_train_step(method, optimizer, feed, config, mesh)
    state = jax.device_put(state, sharding.replicated(mesh))  # where steps leave it: compiled once
    seen = []
    for _ in range(8):
        state, diagnostics = step(state, next(feed))
        seen.append(float(diagnostics["loss"]))
    assert seen[-1] < seen[0]
    for name in method.networks:
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before[name], jax.device_get(state.variables[name]))
        assert max(jax.tree.leaves(moved)) > 1e-4, name
        assert jax.tree.structure(state.teacher[name]) == jax.tree.structure(state.variables[name])


def test_each_network_gets_its_own_gradient_from_the_one_scalar():
    """The detector's gradient is that of its own loss alone, though the segmenters' loss passes through it."""
    config = small("supervised")
    method = Collaborators(config)
    _, state = state_of(method, config)
    data = batch()
    gradient, _ = gradient_of(method, state, data)

    def detector_loss(params):
        total = 0.0
        for name in ("left", "right"):
            images = jnp.concatenate([data.image, data.strong[0]])
            seen = jax.nn.softmax(method.networks[name].apply(state.variables[name], images, train=True).logits[:4])
            flaws = method.networks["detector"].apply({"params": params}, data.image, seen)
            total += jnp.mean(jnp.square(flaws - jnp.abs(data.label - seen[..., 1])))
        return total

    alone = jax.grad(detector_loss)(state.variables["detector"]["params"])
    for a, b in zip(jax.tree.leaves(gradient["detector"]), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["supervised", "dualrel"])
def test_gradients_reach_every_parameter_of_the_student_and_none_of_the_teacher(name):
    config = small(name)
    method = create_method(config)
    _, state = state_of(method, config)
    # The last layer of the reliability starts at zero and would hide the layer before it.
    state = state.replace(variables=jax.tree.map(lambda x: x + 0.01, state.variables))
    student, teacher = gradient_of(method, state, batch(method.strong_views))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(teacher))
    still = [jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(student) if not np.any(leaf)]
    assert still == []


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("dualrel", "rectification", "gate", "expected add or direct"),
        ("dualrel", "reliability", "softmax", "expected class, consistency or uniform"),
        ("dualrel", "num_prototypes", 5, "expected 2 to 1,024, a multiple of 2"),
        ("dualrel", "feature_level", 2, "expected 0 to 1"),
    ],
)
def test_a_wrong_field_of_a_method_is_named_with_what_is_expected(name, field, value, expected):
    config = small(name).unlock()
    config.method[field] = value
    with pytest.raises(InputError, match=rf"config.method.{field} is {value!r}; {expected}"):
        config_lib.resolve(config)


def test_the_loss_of_dualrel_is_the_weighted_sum_of_its_terms_and_each_counts():
    config = small("dualrel")
    method = create_method(config)
    _, state = state_of(method, config)
    data, step = batch(method.strong_views), 5
    total, (found, _) = jax.jit(method.loss)(state.variables, state.teacher, data, jax.random.key(0), step)
    ramp = np.exp(-5 * (1 - step / config.train.steps) ** 2)
    weights = {"supervised": 1.0, "reliability": 0.1}
    weights |= {term: config.method[f"{term}_weight"] for term in ("prototype", "diversity")}
    weights |= {term: ramp * config.method[f"{term}_weight"] for term in RAMPED}
    parts = {term: weight * float(found[f"loss_{term}"]) for term, weight in weights.items()}
    np.testing.assert_allclose(total, sum(parts.values()), rtol=1e-5)
    assert min(np.abs(list(parts.values()))) > 1e-6, parts


class SeesBrightness(DualRel):
    """Logits, maps and fused prototypes are the brightness of the pixel itself."""

    def apply_train(self, network, variables, images):
        return self.apply_teacher(network, variables, images), variables

    def apply_teacher(self, network, variables, images):
        grey = images[..., 0]
        maps = jnp.stack([grey, grey, -grey, -grey], axis=1)
        unused, descriptors = jnp.zeros((len(images), 1)), jnp.ones((len(images), 4, 8))
        output = PrototypeOutput(descriptors, maps, unused, unused, unused, unused)
        return jnp.stack([-grey, grey], axis=-1), output, unused


def test_what_the_teacher_says_is_zoomed_as_the_strong_view_is():
    """Of a method that reads each pixel by itself teacher and student agree, whatever the zoom of the strong view."""
    config = small("dualrel").unlock()
    config.method.strong_scale = (0.5, 2.0)
    method, rng = SeesBrightness(config), jax.random.key(3)
    wave = np.sin(np.arange(16) / 3.0, dtype=np.float32)
    crops = jnp.asarray(np.broadcast_to(np.outer(wave, wave)[None, ..., None], (4, 16, 16, 1)))
    seen = method.zoom(rng, 4)(crops)
    assert float(jnp.abs(seen - crops).mean()) > 0.05

    variables = jax.jit(method.init)(rng, crops)
    views = Batch(crops, jnp.zeros((4, 16, 16), jnp.int32), crops, jnp.stack([crops, crops]))
    _, (diagnostics, _) = jax.jit(method.loss)(variables, variables, views, rng, jnp.int32(0))
    assert diagnostics["loss_pixel_consistency"] < 1e-3 and diagnostics["discrepancy"] < 1e-3


def test_head_and_prototypes_learn_each_from_the_other():
    background, mitochondrion = (jnp.broadcast_to(jax.nn.one_hot(c, 2), (1, 4, 4, 2)) for c in (0, 1))
    teacher = TeacherPredictions(head=mitochondrion, fused=background)
    swapped = cross_pseudo_label_loss(StudentOutput(9 * background, 9 * mitochondrion, None), teacher)
    alike = cross_pseudo_label_loss(StudentOutput(9 * mitochondrion, 9 * background, None), teacher)
    assert swapped < 0.01 < 9 < alike


def test_the_supplements_dualrel_learns_from_prototypes_alone():
    """No term of pixels, views of one size, and a reliability that learns from the prototypes' discrepancy."""
    config = small("dualrel_paper")
    method = create_method(config)
    assert (method.main_head, method.strong_views) == ("prototypes", 1)
    view = jnp.arange(16.0).reshape(1, 4, 4, 1)
    assert method.zoom(jax.random.key(0), 1)(view) is view
    _, state = state_of(method, config)
    total, (found, _) = jax.jit(method.loss)(state.variables, state.teacher, batch(1), jax.random.key(0), 10**6)
    names = {name for name in found if name.startswith("loss_")}
    terms = ("supervised", "prototype", "diversity", "prototype_consistency", "reliability")
    assert names == {f"loss_{term}" for term in terms}
    np.testing.assert_allclose(found["reliability_target"], found["discrepancy"])
    weights = np.array([1.0, 1.0, 0.1, 1.0, 0.1])
    np.testing.assert_allclose(total, weights @ [found[f"loss_{term}"] for term in terms], rtol=1e-5)


def test_predictions_are_probabilities_and_fused_prototypes_differ_from_the_head():
    config = small("dualrel")
    method = create_method(config)
    _, state = state_of(method, config)
    outputs = jax.jit(method.predict)(state.variables, batch().image)
    assert {"default", "head", "prototypes", "mean"} == set(outputs)
    for probability in outputs.values():
        assert probability.shape == (4, 16, 16)
        assert 0 <= probability.min() <= probability.max() <= 1
    assert np.abs(outputs["head"] - outputs["prototypes"]).max() > 0.01


def test_teacher_is_the_moving_average_and_at_first_the_student():
    student, teacher = {"n": {"params": jnp.full(3, 2.0)}}, {"n": {"params": jnp.zeros(3)}}
    after = lambda step: update_teacher(teacher, student, 0.9, jnp.int32(step))["n"]["params"]  # noqa: E731
    np.testing.assert_allclose(after(0), 2.0)
    np.testing.assert_allclose(after(1), 1.0)
    np.testing.assert_allclose(after(1000), 0.2, rtol=1e-5)
