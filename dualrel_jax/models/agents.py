"""Agents: pixels of an image that differ most from each other, and how every pixel ranks them (RankMatch)."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np


def choose_agents(features: jax.Array, first: jax.Array, count: int) -> jax.Array:
    """Flat indices of `count` pixels that are as orthogonal as possible: b p c -> b n int32, no gradient.

    Greedy: after the pixel `first` (b int32) always the one whose largest cosine with those chosen is smallest. No
    pixel is chosen twice and, but for `first`, none whose features are 0, which would be orthogonal to all.
    """
    features = jax.lax.stop_gradient(features)
    norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
    unit = features / jnp.maximum(norm, 1e-6)

    def choose(largest: jax.Array, newest: jax.Array) -> tuple[jax.Array, jax.Array]:
        agent = jnp.take_along_axis(unit, newest[:, None, None], axis=1)
        largest = jnp.maximum(largest, jnp.einsum("bpc,bnc->bp", unit, agent))
        largest = largest.at[jnp.arange(len(largest)), newest].set(jnp.inf)
        return largest, largest.argmin(axis=-1).astype(jnp.int32)

    def body(carry: tuple[jax.Array, jax.Array], _) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        largest, newest = carry
        return choose(largest, newest), newest

    start = jnp.where(norm[..., 0] > 0, -jnp.inf, jnp.inf), first.astype(jnp.int32)
    _, chosen = jax.lax.scan(body, start, length=count)
    return chosen.T


def correlation(features: jax.Array, agents: jax.Array) -> jax.Array:
    """Scaled dot product of every pixel with the agents at these indices: b p c, b n -> b p n float32."""
    features = features.astype(jnp.float32)
    chosen = jnp.take_along_axis(features, agents[..., None], axis=1)
    return jnp.einsum("bpc,bnc->bpn", features, chosen) / math.sqrt(features.shape[-1])


def log_ranking(scores: jax.Array) -> jax.Array:
    """Log-probability of every order of m agents under Plackett and Luce's model: ... m -> ... m!.

    The first place goes to agent i with probability softmax(scores)_i, the next ones likewise among those left.
    """
    orders = np.array(list(itertools.permutations(range(scores.shape[-1]))))
    ordered = scores[..., orders]  # ... m! m
    places = [
        ordered[..., place] - jax.nn.logsumexp(ordered[..., place:], axis=-1) for place in range(scores.shape[-1] - 1)
    ]
    return sum(places)


def rank_divergence(correlation: jax.Array, target: jax.Array, top: int) -> jax.Array:
    """KL divergence of the orders of each pixel's `top` agents in the target from those in `correlation`.

    b p n each -> b p; no gradient into the target.
    """
    best, which = jax.lax.top_k(jax.lax.stop_gradient(target), top)
    wanted, found = log_ranking(best), log_ranking(jnp.take_along_axis(correlation, which, axis=-1))
    return jnp.sum(jnp.exp(wanted) * (wanted - found), axis=-1)
