"""RankMatch: UniMatch and a term that is nothing where both views agree, and pulls on the strong view alone."""

import jax
import numpy as np
import pytest
from test_baselines import build, terms_of
from test_protocol import batch, gradient_of

from dualrel_jax import config as config_lib
from dualrel_jax.errors import InputError


def test_it_adds_to_unimatch_how_differently_the_views_rank():
    method, _, _, state = build("rankmatch", rank_weight=0.5, consistency_weight=2.0, cutmix_probability=0.0)
    data = batch(2)
    found = terms_of(method, state, data)
    unlabelled = (found["loss_strong"] + found["loss_feature"]) / 2 + 0.5 * found["loss_rank"]
    assert found["loss_rank"] > 1e-4
    assert found["total"] == pytest.approx((found["loss_supervised"] + 2 * unlabelled) / 2, rel=1e-4)
    alike = data._replace(strong=jax.numpy.stack([data.weak, data.weak]))
    assert terms_of(method, state, alike)["loss_rank"] == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
def test_the_weak_view_is_pasted_as_the_strong_one_is():
    method, _, _, state = build("rankmatch", cutmix_probability=1.0)
    data = batch(2)
    alike = data._replace(strong=jax.numpy.stack([data.weak, data.weak]))
    # Beside the border of a box the network sees another neighbourhood; within and without, the same pixels.
    assert terms_of(method, state, alike)["loss_rank"] < 0.7 * terms_of(method, state, data)["loss_rank"]


@pytest.mark.slow
def test_the_rank_term_reaches_the_network_and_no_teacher():
    method, _, _, state = build("rankmatch", rank_weight=1e3)
    gradient, to_teacher = gradient_of(method, state, batch(2))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(to_teacher))
    light, _ = gradient_of(build("rankmatch", rank_weight=0.0)[0], state, batch(2))
    first = lambda tree: np.asarray(tree["student"]["unet"]["encoder"]["ConvBlock_0"]["Conv_0"]["kernel"])  # noqa: E731
    assert not np.allclose(first(gradient), first(light), rtol=0.1)


def test_a_crop_with_fewer_features_than_agents_is_refused():
    config = config_lib.get_config("rankmatch:phantom,4")
    config.method.num_agents, config.train.crop_px = 65, 64
    with pytest.raises(InputError, match="num_agents is 65; expected at most 64, the features of a crop"):
        config_lib.resolve(config)
