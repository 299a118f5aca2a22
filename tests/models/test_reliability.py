"""Reliability: its formulas, what it learns, and where no gradient may go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualrel_jax.models import reliability as r
from dualrel_jax.models.prototypes import PrototypeOutput, unit

B, K, C = 2, 4, 6


def output(seed, b=B):
    keys = jax.random.split(jax.random.key(seed), 2)
    prototypes, maps = unit(jax.random.normal(keys[0], (b, K, C))), jax.random.normal(keys[1], (b, K, 3, 5))
    unused = jnp.zeros((b, 1))
    return PrototypeOutput(prototypes, maps, unused, unused, unused, unused)


def test_discrepancy_is_one_minus_the_correlation_of_activation_maps():
    student, teacher = output(0), output(1)
    expected = [
        [1 - np.corrcoef(np.ravel(student.maps[b, k]), np.ravel(teacher.maps[b, k]))[0, 1] for k in range(K)]
        for b in range(B)
    ]
    np.testing.assert_allclose(r.discrepancy(student, teacher), expected, atol=1e-5)
    np.testing.assert_allclose(r.discrepancy(student, student), np.zeros((B, K)), atol=1e-5)


def test_no_gradient_reaches_the_teacher():
    gradient = jax.grad(lambda teacher: r.discrepancy(output(0), teacher).sum(), allow_int=True)(output(1))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def classes(background, mitochondrion):
    return jnp.stack([background, mitochondrion], axis=-1)


def test_confusion_is_the_share_of_a_prototype_on_the_other_class():
    """Prototypes that split the image exactly: the left half is mitochondrion, of which prototype 1 lacks a third."""
    owner = np.array([[0, 0, 0, 2, 2, 3], [1, 1, 3, 1, 2, 3]])
    maps = jnp.asarray(50.0 * (owner == np.arange(4)[:, None, None]))[None]
    mitochondrion = jnp.asarray(np.broadcast_to(np.arange(6) < 3, owner.shape).astype(np.float32))[None]
    np.testing.assert_allclose(
        r.confusion(maps, classes(1 - mitochondrion, mitochondrion)), [[0, 1 / 3, 0, 1 / 3]], atol=1e-5
    )
    np.testing.assert_allclose(
        r.confusion(maps, classes(mitochondrion, 1 - mitochondrion)), [[1, 2 / 3, 1, 2 / 3]], atol=1e-5
    )
    half = jnp.full(mitochondrion.shape, 0.5)
    np.testing.assert_allclose(r.confusion(maps, classes(half, half)), np.full((1, 4), 0.5), atol=1e-5)


def test_confusion_is_of_the_pixels_whose_class_is_known():
    maps = jax.random.normal(jax.random.key(0), (1, 4, 3, 6))
    mitochondrion = jnp.asarray(np.tile([1.0, 0.0], 9).reshape(1, 3, 6))
    known = jnp.asarray(np.broadcast_to(np.arange(6) < 3, (1, 3, 6)).astype(np.float32))
    found = r.confusion(maps, classes(known * (1 - mitochondrion), known * mitochondrion))
    alone = r.confusion(maps[..., :3], classes(1 - mitochondrion[..., :3], mitochondrion[..., :3]))
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_weights_are_larger_for_reliable_prototypes_and_average_one():
    weights = r.reliability_weights(jnp.array([[-1.0, 0.0, 1.0, 2.0]]))
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
    assert np.all(np.diff(weights[0]) < 0)


def test_loss_formulas():
    d, z = jnp.array([[0.1, 0.3]]), jnp.array([[0.5, -0.5]])
    relative = np.array([[0.5, 1.5]])
    np.testing.assert_allclose(r.reliability_loss(d, z), np.exp(-z) * relative + z, rtol=1e-4)


def test_images_without_a_known_pixel_teach_nothing():
    target, z = jnp.array([[0.1, 0.3], [0.0, 0.0]]), jnp.array([[0.5, -0.5], [1.0, 2.0]])
    known = jnp.array([1.0, 0.0])
    loss = r.reliability_loss(target, z, known)
    np.testing.assert_allclose(loss[0], r.reliability_loss(target[:1], z[:1])[0], rtol=1e-6)
    gradient = jax.grad(lambda z: r.reliability_loss(target, z, known).sum())(z)
    assert np.all(np.asarray(gradient[0]) != 0) and not np.any(gradient[1])


def test_consistency_moves_the_prototypes_and_reliability_the_weights_and_neither_both():
    d, z = jnp.array([[0.1, 0.3]]), jnp.array([[0.5, -0.5]])
    consistency = lambda d, z: r.consistency_loss(d, r.reliability_weights(z)).sum()  # noqa: E731
    np.testing.assert_allclose(consistency(d, z), np.sum(r.reliability_weights(z) * d), rtol=1e-6)
    to_d, to_z = jax.grad(consistency, argnums=(0, 1))(d, z)
    np.testing.assert_allclose(to_d, r.reliability_weights(z), rtol=1e-6)
    assert not np.any(to_z)
    to_d, to_z = jax.grad(lambda d, z: r.reliability_loss(d, z).sum(), argnums=(0, 1))(d, z)
    assert not np.any(to_d) and np.all(np.asarray(to_z) != 0)


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0])
def test_the_learned_log_variance_is_the_log_of_the_relative_discrepancy_at_any_scale(scale):
    """Its optimum is z_k = log(d_k / mean d), however small the discrepancies are."""
    d = scale * jnp.array([[0.5, 0.8, 1.2, 1.5]])
    gradient = jax.grad(lambda z: r.reliability_loss(d, z).sum())
    z = jax.lax.fori_loop(0, 100, lambda _, z: z - 0.3 * gradient(z), jnp.zeros((1, 4)))
    np.testing.assert_allclose(z, np.log(d / d.mean()), atol=0.03)


def test_a_log_variance_beyond_the_largest_optimum_is_pulled_back():
    target, z = jnp.array([[1e-6, 0.1, 0.1, 0.3]]), jnp.array([[-6.0, 6.0, -6.0, 0.0]])
    gradient = jax.grad(lambda z: r.reliability_loss(target, z).sum())(z)[0]
    assert gradient[0] < 0 < gradient[1] and gradient[2] < 0  # each step goes towards the optimum, at least -5


def test_head_is_symmetric_and_does_not_shape_the_prototypes():
    a, b = output(0).prototypes, output(1).prototypes
    head = r.ReliabilityHead()
    variables = head.init(jax.random.key(0), a, b)
    variables = jax.tree.map(lambda x: x + 0.1, variables)
    np.testing.assert_allclose(head.apply(variables, a, b), head.apply(variables, b, a), rtol=1e-6)
    assert np.ptp(head.apply(variables, a, b)) > 1e-3  # reliability is this image's
    gradient = jax.grad(lambda a: head.apply(variables, a, b).sum())(a)
    assert not np.any(gradient)
