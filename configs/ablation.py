"""DualRel against itself with one field changed: configs/ablation.py:phantom, arguments as in configs/benchmark.py.

python -m dualrel_jax.benchmark --config configs/ablation.py:phantom --workdir runs/ablation
"""

from dualrel_jax.configs import benchmark
from ml_collections import ConfigDict

VARIANTS = {  # row -> (its name in the tables, fields of config.method that differ)
    "dualrel": ("DualRel", {}),
    "direct": ("without referential correlation", {"rectification": "direct"}),
    "uniform": ("equal reliability", {"reliability": "uniform"}),
    "of_views": ("reliability from consistency", {"reliability": "consistency"}),
    "no_diversity": ("without diversity", {"diversity_weight": 0.0}),
    "no_consistency": ("without prototype consistency", {"prototype_consistency_weight": 0.0}),
    "full_consistency": ("prototype consistency with weight 1", {"prototype_consistency_weight": 1.0}),
    "no_soft": ("without pixel consistency", {"pixel_consistency_weight": 0.0}),
    "one_geometry": ("teacher and student in one geometry", {"strong_scale": (1.0, 1.0)}),
    "no_cross": ("without cross pseudo-labels", {"cross_pseudo_label_weight": 0.0}),
    "zoom_alone": (
        "Mean Teacher, zoomed view",
        {
            "prototype_weight": 0.0,
            "diversity_weight": 0.0,
            "prototype_consistency_weight": 0.0,
            "cross_pseudo_label_weight": 0.0,
            "reliability": "uniform",
        },
    ),
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
