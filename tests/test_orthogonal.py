import jax
import numpy as np
import pytest

from dualrel_jax import orthogonal

SHAPES = [(9, 16), (16, 9), (144, 16), (16, 16), (32, 1), (1, 5)]


def matrix(shape, singular_values, seed=0):
    rng = np.random.default_rng(seed)
    side = min(shape)
    u, v = (np.linalg.qr(rng.normal(size=(size, side)))[0] for size in shape)
    return np.asarray(u * np.broadcast_to(singular_values, side) @ v.T, np.float32)


def by_hand(x):
    """Newton and Schulz on the matrix itself, in float64."""
    a, b, c = orthogonal.COEFFICIENTS
    x = x.astype(np.float64) / np.linalg.norm(x)
    for _ in range(orthogonal.STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def test_each_matrix_is_that_of_the_iteration_by_hand_whatever_the_others_are():
    matrices = [matrix(shape, np.linspace(1, 3, min(shape)), seed) for seed, shape in enumerate(SHAPES)]
    for given, found in zip(matrices, jax.jit(orthogonal.orthogonalise)(matrices), strict=True):
        np.testing.assert_allclose(found, by_hand(given), atol=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_singular_values_end_near_one_and_singular_vectors_stay(scale):
    given = matrix((144, 16), scale * np.logspace(0, -2, 16))
    (found,) = orthogonal.orthogonalise([given])
    u, values, v = np.linalg.svd(found, full_matrices=False)
    assert 0.6 < values.min() and values.max() < 1.3
    closest = np.linalg.svd(given, full_matrices=False)
    polar = closest[0] @ closest[2]
    assert np.linalg.norm(u @ v - polar) < 0.02 * np.linalg.norm(polar)


def test_small_singular_values_lose_no_more_than_a_thousandth_to_rounding():
    given = matrix((288, 32), np.logspace(0, -5, 32))
    (found,) = orthogonal.orthogonalise([given])
    assert np.linalg.norm(found - by_hand(given)) < 2e-3 * np.linalg.norm(by_hand(given))


def test_a_matrix_of_zeros_stays_one():
    (found,) = orthogonal.orthogonalise([np.zeros((16, 8), np.float32)])
    np.testing.assert_array_equal(found, 0)
