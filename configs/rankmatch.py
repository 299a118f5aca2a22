"""RankMatch (Mai et al., CVPR 2024): UniMatch with rank-aware consistency of the correlations between pixels."""

from dualrel_jax.configs import base, unimatch
from ml_collections import ConfigDict

from dualrel_jax.config import rules
from dualrel_jax.config.schema import field
from dualrel_jax.errors import InputError

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


def check(config: ConfigDict) -> None:
    unimatch.check(config)
    rules.check_feature_level(config)
    method, side = config.method, config.train.crop_px // (config.model.stem * 2**config.method.feature_level)
    if method.num_agents > side**2:
        raise InputError(
            f"config.method.num_agents is {method.num_agents}; expected at most {side**2}, the features of a crop at "
            f"config.method.feature_level={method.feature_level}."
        )
