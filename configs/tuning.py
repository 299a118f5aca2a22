"""Every method that has a `consistency_weight`, with a third and three times of it.

python -m dualrel_jax.benchmark --config configs/tuning.py:lucchi,to=vnc --workdir runs/tuning --config.labelled=1 \
    --config.seeds=1 --config.score_on=validation

Arguments are as in configs/benchmark.py.
"""

from dualrel_jax.configs import benchmark
from ml_collections import ConfigDict

from dualrel_jax.constants import METHOD_TITLES

FACTORS = {"third": 1 / 3, "triple": 3.0}


def get_config(arg: str = "lucchi") -> ConfigDict:
    config = benchmark.shared(arg)
    config.bounds = False
    config.rows = ConfigDict(sort_keys=False)
    for name, title in METHOD_TITLES.items():
        weight = benchmark.row(title, name).method.get("consistency_weight")
        for word, factor in FACTORS.items() if weight else ():
            row = benchmark.row(f"{title}, weight {weight * factor:.3g}", name)
            row.method.consistency_weight = weight * factor
            config.rows[f"{name}_{word}"] = row
    return config
