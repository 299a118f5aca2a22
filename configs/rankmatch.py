"""RankMatch (Mai et al., CVPR 2024): UniMatch with rank-aware consistency of the correlations between pixels."""

from dualrel_jax.configs import base, unimatch
from ml_collections import ConfigDict

from dualrel_jax.config.schema import field

PREDICTION_HEADS = ("head",)
FIELDS = {
    **unimatch.FIELDS,
    "name": field("rankmatch", "the method; others have config files of their own", choices=("rankmatch",)),
    "feature_level": field(
        1, "decoder level of the correlations: features at a stride of 2^level cells", minimum=0, maximum=7
    ),
    "num_agents": field(
        32, "N, agents per image; published: 128, of features with 256 channels", minimum=5, maximum=4096
    ),
    "num_ranked": field(4, "agents of each pixel whose orders are compared", minimum=2, maximum=5),
    "rank_weight": field(0.1, "weight of the rank consistency, ramped", minimum=0, maximum=1e4),
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)
