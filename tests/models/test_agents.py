"""Agents against slow versions: orthogonal choice, probabilities of orders, their divergence."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualrel_jax.models import agents


def test_the_next_agent_is_the_pixel_least_like_those_chosen():
    features = np.random.default_rng(0).normal(size=(2, 30, 5)).astype(np.float32)
    first = np.array([7, 3])
    chosen = np.asarray(jax.jit(agents.choose_agents, static_argnums=2)(features, first, 6))
    for image, start, found in zip(features, first, chosen, strict=True):
        unit = image / np.linalg.norm(image, axis=-1, keepdims=True)
        expected = [start]
        while len(expected) < 6:
            expected.append(int((unit @ unit[expected].T).max(axis=1).argmin()))
        assert found.tolist() == expected


def test_every_kind_of_pixel_gets_an_agent_before_any_gets_two():
    kinds = np.repeat(np.eye(4, dtype=np.float32), [1, 2, 40, 57], axis=0)[None] * 3
    chosen = np.asarray(agents.choose_agents(kinds, np.array([60]), 4))[0]
    assert {int(kinds[0, i].argmax()) for i in chosen} == {0, 1, 2, 3}


def test_no_pixel_is_an_agent_twice_nor_one_without_features():
    features = np.random.default_rng(4).normal(size=(1, 40, 5)).astype(np.float32) ** 2
    features[0, 7] = 0
    chosen = np.asarray(agents.choose_agents(features, np.array([0]), 16))[0].tolist()
    assert len(set(chosen)) == 16 and 7 not in chosen


def test_an_order_has_the_probability_of_plackett_and_luce():
    scores = np.random.default_rng(1).normal(size=(3, 4))
    probability = np.exp(np.asarray(agents.log_ranking(jnp.asarray(scores))))
    assert probability.shape == (3, 24)
    np.testing.assert_allclose(probability.sum(axis=-1), 1, rtol=1e-5)
    for c, found in zip(np.exp(scores), probability, strict=True):
        for order, value in zip(itertools.permutations(range(4)), found, strict=True):
            expected = np.prod([c[i] / c[list(order[n:])].sum() for n, i in enumerate(order)])
            assert value == pytest.approx(expected, rel=1e-4)


def test_the_divergence_is_that_of_the_targets_best_agents():
    rng = np.random.default_rng(2)
    found, target = rng.normal(size=(2, 1, 3, 6)).astype(np.float32)
    divergence = np.asarray(agents.rank_divergence(found, target, 3))
    for pixel in range(3):
        best = np.argsort(-target[0, pixel])[:3]
        p, q = (np.exp(agents.log_ranking(jnp.asarray(side[0, pixel, best]))) for side in (target, found))
        assert divergence[0, pixel] == pytest.approx(np.sum(p * np.log(p / q)), rel=1e-4)
    np.testing.assert_allclose(agents.rank_divergence(target + 2, target, 3), 0, atol=1e-5)  # only differences count
    gradient = jax.grad(lambda t: agents.rank_divergence(found, t, 3).sum())(target)
    assert not np.asarray(gradient).any()


def test_a_correlation_is_the_scaled_dot_product():
    features = np.random.default_rng(3).normal(size=(2, 9, 4)).astype(np.float32)
    chosen = np.array([[0, 4], [8, 1]], np.int32)
    found = np.asarray(agents.correlation(jnp.asarray(features), jnp.asarray(chosen)))
    for i in range(2):
        np.testing.assert_allclose(found[i], features[i] @ features[i][chosen[i]].T / 2, rtol=1e-5)
