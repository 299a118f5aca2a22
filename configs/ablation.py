"""DualRel against itself with one field changed: configs/ablation.py:phantom, arguments as in configs/benchmark.py.

python -m dualrel_jax.benchmark --config configs/ablation.py:phantom --workdir runs/ablation
"""

from dualrel_jax.configs import benchmark
from ml_collections import ConfigDict

VARIANTS = {  # row -> (its name in the tables, fields of config.method that differ)
    "dualrel": ("DualRel", {}),
    "direct": ("without referential correlation", {"rectification": "direct"}),
    "referential": ("referential correlation alone", {"rectification": "referential"}),
    "uniform": ("equal reliability", {"reliability": "uniform"}),
    "of_views": ("reliability from consistency", {"reliability_from": "consistency"}),
    "no_diversity": ("without diversity", {"diversity_weight": 0.0}),
    "no_consistency": ("without prototype consistency", {"prototype_consistency_weight": 0.0}),
    "full_consistency": ("prototype consistency with weight 1", {"prototype_consistency_weight": 1.0}),
    "no_soft": ("without soft pixel targets", {"pixel_consistency_weight": 0.0}),
    "trust": ("soft pixel targets weighted by reliability", {"soft_trust": "reliability"}),
    "one_geometry": ("teacher and student in one geometry", {"strong_scale": (1.0, 1.0)}),
    "no_cross": ("without cross labels", {"cross_pseudo_label_weight": 0.0}),
    "own_labels": ("each opinion labelled by itself", {"cross_labels": "own"}),
    "no_prototype": ("without segmentation by prototypes", {"prototype_weight": 0.0}),
}


def get_config(arg: str = "phantom") -> ConfigDict:
    config = benchmark.shared(arg)
    config.bounds = False
    config.rows = ConfigDict(sort_keys=False)
    for key, (title, fields) in VARIANTS.items():
        config.rows[key] = benchmark.row(title, "dualrel")
        config.rows[key].method.lock().update(fields)  # locked: a field the method lacks is an error
    return config
