"""Methods over several domains, in each scored on a region away in z and in-plane, and then on the other domains.

python -m dualrel_jax.benchmark --config configs/domains.py --workdir runs/domains

The argument is `[a+b+...][,rows=ablation]`: the domains (default: all of DOMAINS), and DualRel with one part changed at
a time in place of the methods. The protocol is in docs/evaluation.md.
"""

from dualrel_jax.configs import ablation, benchmark
from ml_collections import ConfigDict

from dualrel_jax.errors import InputError

DOMAINS = {  # training region, validation region: no crop, labelled or not, comes from the second
    "lucchi": ("0:128,,0:704", "133:165,,736:1024"),
    "fly_brain": ("0:200,,0:184", "212:256,,192:255"),
    "glycolytic_muscle": ("0:150,,0:560", "160:192,,576:765"),
    "vnc": ("0:14,,0:768", "16:20,,800:1024"),
}
FOREIGN_REGIONS = {  # where masks by models of the other domains are scored: nothing of it was learned there
    "lucchi": "48:80,,0:512",
    "fly_brain": "100:132",
    "glycolytic_muscle": "80:112,,0:382",
    "vnc": "5:20",
}
ROWS = {"methods": benchmark.get_config, "ablation": ablation.get_config}


def get_config(arg: str = "") -> ConfigDict:
    names, rows = parse(arg)
    config = ROWS[rows](names[0])
    config.domains = ConfigDict(
        {name: dict(zip(("train_region", "validation_region"), DOMAINS[name], strict=True)) for name in names},
        sort_keys=False,
    )
    config.labelled = "1,4"
    config.bounds = False
    config.score_on = "validation"  # in-domain the region held out; elsewhere the labelled slices, no test volume
    config.masks = True  # in-domain also score masks as `predict` makes them
    config.foreign_slices = 12  # of each other domain, evenly spaced; 0: all
    config.foreign_masks = False  # of each other domain also score masks as `predict` makes them, of FOREIGN_REGIONS
    config.foreign_regions = ConfigDict({name: FOREIGN_REGIONS[name] for name in names}, sort_keys=False)
    config.cpu_minutes = 0.0  # of each training, in place of equal steps (base.train.steps); 0: equal steps
    config.step_seconds = (
        ""  # a step_seconds.json of before, for cpu_minutes; empty: measured first, in the work folder
    )
    # Seconds less of each training: one validation, at its end.
    config.base.train.eval_every_steps = config.base.train.checkpoint_every_steps * 1000
    return config


def parse(arg: str) -> tuple[list[str], str]:
    """`lucchi+vnc,rows=ablation` -> (["lucchi", "vnc"], "ablation")."""
    words = [word for word in arg.split(",") if word]
    rows = [word.removeprefix("rows=") for word in words if word.startswith("rows=")] or ["methods"]
    names = [name for word in words if not word.startswith("rows=") for name in word.split("+")] or list(DOMAINS)
    if len(rows) > 1 or rows[0] not in ROWS or set(names) - set(DOMAINS) or len(set(names)) < len(names):
        raise InputError(
            f"The argument of configs/domains.py is {arg}; expected domains, joined by +, of {', '.join(DOMAINS)}, and "
            f"rows=methods or rows=ablation, after a comma."
        )
    return names, rows[0]
