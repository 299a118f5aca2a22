"""RankMatch (Mai et al., CVPR 2024): each pixel ranks a few agents alike in the weak and the strong views."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dualrel_jax.methods import cutmix
from dualrel_jax.methods.unimatch import UniMatch
from dualrel_jax.models import agents
from dualrel_jax.models.unet import UNetOutput


class RankMatch(UniMatch):
    """UniMatch, on which the authors build, and a term on the correlations between pixels."""

    def further_terms(
        self, key: jax.Array, masks: list[jax.Array], strong: list[UNetOutput], weak: UNetOutput
    ) -> dict[str, tuple[float, Callable[[], jax.Array]]]:
        return {"rank": (self.config.rank_weight, functools.partial(self.rank_loss, key, masks, strong, weak))}

    def rank_loss(
        self, key: jax.Array, masks: list[jax.Array], strong: list[UNetOutput], weak: UNetOutput
    ) -> jax.Array:
        """Mean over strong views and pixels of `agents.rank_divergence` from the weak view, pasted as they are."""
        level, losses = self.config.feature_level, []
        for mask, view in zip(masks, strong, strict=True):
            found, wanted = view.features[level], jax.lax.stop_gradient(weak.features[level])
            stride = mask.shape[1] // wanted.shape[1]
            wanted = cutmix.paste_next(mask[:, stride // 2 :: stride, stride // 2 :: stride], wanted)
            found, wanted = (x.astype(jnp.float32).reshape(len(x), -1, x.shape[-1]) for x in (found, wanted))
            first = jax.random.randint(key, (len(wanted),), 0, wanted.shape[1])
            chosen = agents.choose_agents(wanted, first, self.config.num_agents)
            pair = (agents.correlation(features, chosen) for features in (found, wanted))
            losses.append(agents.rank_divergence(*pair, self.config.num_ranked).mean())
        return sum(losses) / len(losses)
