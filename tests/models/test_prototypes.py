"""Each pure function against a slow reference written from its formula, and the easy mistakes tested away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualrel_jax.models import prototypes as p

B, K, PIXELS, N, C = 2, 4, 12, 5, 3
RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(K, C)).astype(np.float32)
KEYS = RNG.normal(size=(B, PIXELS, C)).astype(np.float32)
DIRECT = RNG.normal(size=(B, K, PIXELS)).astype(np.float32)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


def softmax(v):
    e = np.exp(v - v.max())
    return e / e.sum()


def test_direct_correlation_is_a_scaled_dot_product():
    want = [[[KEYS[b, i] @ QUERIES[k] / np.sqrt(C) for i in range(PIXELS)] for k in range(K)] for b in range(B)]
    close(p.direct_correlation(QUERIES, KEYS), want)


def test_usage_is_the_total_contribution_of_a_pixel_to_all_prototypes():
    want = [np.sum([softmax(DIRECT[b, k]) for k in range(K)], axis=0) for b in range(B)]
    use = p.usage(DIRECT)
    close(use, want)
    close(use.sum(axis=-1), [K] * B)
    assert np.ptp(use) > 0.1  # a softmax over prototypes would make every pixel's usage 1


def test_reference_points_are_the_pixels_of_largest_usage():
    use = p.usage(DIRECT)
    for b, found in enumerate(p.reference_points(use, N)):
        assert set(found.tolist()) == set(np.argsort(np.asarray(use[b]))[-N:].tolist())
    assert p.reference_points(use, 1000).shape == (B, PIXELS)


def test_gathered_pixels_are_those_of_the_indices_and_carry_gradient():
    indices = jnp.array([[1, 3], [0, 7]])
    close(p.gather_pixels(KEYS, indices), [KEYS[0][[1, 3]], KEYS[1][[0, 7]]])
    gradient = jax.grad(lambda keys: p.gather_pixels(keys, indices).sum())(jnp.asarray(KEYS))
    assert np.flatnonzero(gradient[1].any(axis=-1)).tolist() == [0, 7]


def test_referential_correlation_is_the_cosine_of_centred_profiles():
    references = KEYS[:, :N]
    want = np.zeros((B, K, PIXELS))
    for b in range(B):
        for k in range(K):
            for i in range(PIXELS):
                c = np.array([QUERIES[k] @ references[b, n] for n in range(N)])
                x = np.array([KEYS[b, i] @ references[b, n] for n in range(N)])
                c, x = c - c.mean(), x - x.mean()
                want[b, k, i] = c @ x / np.sqrt((c @ c) * (x @ x))
    # Not exact: along some of these vectors the references are nearly equal.
    np.testing.assert_allclose(p.referential_correlation(QUERIES, KEYS, references), want, atol=3e-3)


def largest_gradient(keys):
    weight = RNG.normal(size=(B, K, PIXELS)).astype(np.float32)
    value = lambda q, x: jnp.sum(weight * p.referential_correlation(q, x, x[:, :N]))  # noqa: E731
    return max(float(jnp.abs(gradient).max()) for gradient in jax.jit(jax.grad(value, argnums=(0, 1)))(QUERIES, keys))


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 0])
def test_references_that_agree_leave_a_small_gradient_and_no_correlation(spread):
    """With an epsilon that does not follow the references, the gradient is up to 1e3 on the way there."""
    keys = jnp.asarray(np.float32([2, -1, 1]) + spread * KEYS)
    assert largest_gradient(keys) < 150
    if spread < 1e-3:
        assert jnp.abs(p.referential_correlation(QUERIES, keys, keys[:, :N])).max() < 0.1


def test_referential_correlation_does_not_depend_on_the_length_of_features():
    want = p.referential_correlation(QUERIES, KEYS, KEYS[:, :N])
    for scale in (1e-3, 1e3):
        close(p.referential_correlation(QUERIES, scale * KEYS, scale * KEYS[:, :N]), want)


@pytest.mark.parametrize("how", ["add", "direct"])
def test_rectified_attention_is_a_distribution_over_pixels(how):
    referential = np.tanh(RNG.normal(size=(B, K, PIXELS))).astype(np.float32)
    attention = p.rectify(jnp.asarray(DIRECT), jnp.asarray(referential), jnp.float32(0.7), how)
    close(attention.sum(axis=-1), np.ones((B, K)))
    row = {
        "add": softmax(DIRECT[0, 0] + 0.7 * referential[0, 0]),
        "direct": softmax(DIRECT[0, 0]),
    }[how]
    close(attention[0, 0], row)


def test_aggregate_weights_the_pixels_and_has_unit_length():
    attention = np.array([[softmax(DIRECT[b, k]) for k in range(K)] for b in range(B)])
    raw = np.einsum("bki,bic->bkc", attention, KEYS)
    close(p.aggregate(jnp.asarray(attention), jnp.asarray(KEYS)), raw / np.linalg.norm(raw, axis=-1, keepdims=True))


def test_fuse_is_logsumexp_over_each_half():
    maps = RNG.normal(size=(B, K, 2, 3)).astype(np.float32)
    want = np.stack([np.log(np.exp(maps[:, 2:]).sum(1)), np.log(np.exp(maps[:, :2]).sum(1))], axis=-1)
    close(p.fuse(jnp.asarray(maps)), want)


def test_diversity_is_the_mean_cosine_of_assignments_and_least_when_the_image_is_shared_out():
    maps = RNG.normal(size=(1, K, 2, 6)).astype(np.float32)
    assigned = np.exp(maps) / np.exp(maps).sum(1, keepdims=True)
    flat = assigned.reshape(K, -1)
    pairs = [(a, b) for a in range(K) for b in range(K) if a != b]
    cosine = [flat[a] @ flat[b] / np.linalg.norm(flat[a]) / np.linalg.norm(flat[b]) for a, b in pairs]
    close(p.diversity(jnp.asarray(maps)), [np.mean(cosine)])
    same = jnp.zeros((1, K, 2, 6))
    shared_out = 50 * jnp.repeat(jnp.eye(K), 3, axis=1).reshape(1, K, 2, 6)
    assert p.diversity(same)[0] > 0.99
    assert p.diversity(shared_out)[0] < 0.01


def bank_output(features, rectification="add"):
    bank = p.PrototypeBank(num_prototypes=K, num_references=N, dim=8, rectification=rectification)
    variables = jax.jit(bank.init)(jax.random.key(0), features)
    return bank, variables, jax.jit(bank.apply)(variables, features)


def test_prototypes_are_those_of_the_image():
    features = jax.random.normal(jax.random.key(1), (2, 4, 5, 6))
    _, _, output = bank_output(features)
    assert output.maps.shape == (2, K, 4, 5)
    between_images = jnp.sum(output.prototypes[0] * output.prototypes[1], axis=-1)
    assert between_images.mean() < 0.9  # prototypes that ignore the image would have cosine 1


def test_prototypes_do_not_depend_on_where_a_pixel_lies():
    features = jax.random.normal(jax.random.key(1), (1, 4, 5, 6))
    bank, variables, output = bank_output(features)
    turned = bank.apply(variables, features[:, ::-1])
    close(turned.prototypes, output.prototypes)
    close(turned.maps, output.maps[:, :, ::-1])


@pytest.mark.parametrize("how", ["add", "direct"])
def test_the_bank_learns_through_every_rectification(how):
    features = jax.random.normal(jax.random.key(1), (1, 4, 5, 6))
    bank, variables, _ = bank_output(features, how)
    weights = jax.random.normal(jax.random.key(2), (1, K, 4, 5))
    gradient = jax.grad(lambda v: (bank.apply(v, features).maps * weights).sum())(variables)["params"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    for name in ("bank", "query", "key", "value"):
        assert any(np.abs(leaf).max() > 1e-7 for leaf in jax.tree.leaves(gradient[name])), name
    assert (float(jnp.abs(gradient["gain"])) > 1e-9) == (how == "add")
