"""Every rival with a third and three times its published weight; arguments as in configs/benchmark.py.

python -m dualrel_jax.benchmark --config configs/tuning.py:lucchi,to=vnc --workdir runs/tuning --config.labelled=1 \
    --config.seeds=1 --config.score_on=validation
"""

from dualrel_jax.configs import benchmark
from ml_collections import ConfigDict

from dualrel_jax.constants import METHOD_TITLES

RIVALS = [name for name in METHOD_TITLES if name not in ("supervised", "dualrel", "dualrel_paper")]
FACTORS = {"third": 1 / 3, "triple": 3.0}


def get_config(arg: str = "lucchi") -> ConfigDict:
    config = benchmark.shared(arg)
    config.bounds = False
    config.rows = ConfigDict(sort_keys=False)
    for name in RIVALS:
        for word, factor in FACTORS.items():
            row = benchmark.row("", name)
            row.method.consistency_weight *= factor
            row.title = f"{METHOD_TITLES[name]}, weight {row.method.consistency_weight:.3g}"
            config.rows[f"{name}_{word}"] = row
    return config
