"""The comparison of the paper: every method with every number of labels, with a few seeds, under one shared config.

python -m dualrel_jax.benchmark --config configs/benchmark.py:phantom --workdir runs/bench

The argument is `data set[,to=a+b][,unlabelled=target]`. `to` names data sets the trained models are also scored on:
`mitoem_r,to=lucchi+lucchi_pp` and `mitoem_h,to=lucchi+lucchi_pp` are Tables 6 and 7 of the paper's supplement.
`unlabelled=target` lets slices of those data sets join the unlabelled ones, as for a person with a new microscope.
"""

from dualrel_jax.configs import base
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.constants import METHOD_TITLES
from dualrel_jax.errors import InputError

# Shares where a data set has slices enough, else counts.
LABELLED = {"vnc": "1,2,4,7"}


def get_config(arg: str = "phantom") -> ConfigDict:
    config = shared(arg)
    config.rows = ConfigDict({key: row(title, key) for key, title in METHOD_TITLES.items()}, sort_keys=False)
    return config


def shared(arg: str) -> ConfigDict:
    """All but the rows."""
    name, options = parse(arg)
    config = ConfigDict()
    config.base = base.get_config(f"{name},1/32")  # what all trials share; labels and seed are the trial's
    if options.get("unlabelled"):
        config.base.data.unlabelled_from = options["to"]
    config.only = ""  # rows to run, "supervised,dualrel"; empty: all
    config.labelled = LABELLED.get(name, "1/32,1/16,1/8,1/2")  # shares or counts of labelled slices
    config.seeds = 3  # trainings of each trial,
    config.first_seed = 0  # ... with this seed and the next ones: others than a setting was chosen on confirm it
    config.bounds = True  # also train the supervised row on every label: the upper bound
    config.to = options.get("to", "")  # further data sets to score on, joined by +
    config.score_on = "test"  # of the training data set: test (validation where there is none) or validation
    config.processes = 0  # trials at a time; 0: one per GPU, on CPU one per core
    return config


def row(title: str, method: str) -> ConfigDict:
    """A row that trains with the method section of configs/<method>.py, which changes no other section."""
    config, alone = config_lib.get_config(f"{method}:phantom,1/32"), base.get_config("phantom,1/32")
    section = config.method
    del config.method
    for key in sorted({*config, *alone}):
        if config.get(key) != alone.get(key):
            raise InputError(
                f"configs/{method}.py changes config.{key}, which all methods of a benchmark share; expected it to add "
                "config.method alone: change the shared field with --config.base, for every method."
            )
    return ConfigDict({"title": title, "method": section})


def parse(arg: str) -> tuple[str, dict[str, str]]:
    """`vnc,to=lucchi,unlabelled=target` -> ("vnc", {"to": "lucchi", "unlabelled": "target"})."""
    name, *rest = arg.split(",")
    pairs = (word.partition("=") for word in rest)
    options = {key.replace("unlabeled", "unlabelled"): value for key, _, value in pairs}
    if set(options) - {"to", "unlabelled"} or options.get("unlabelled", "target") != "target" or "" in options.values():
        raise InputError(f"The benchmark's argument is {arg}; expected data[,to=a+b][,unlabelled=target].")
    if "unlabelled" in options and "to" not in options:
        raise InputError(f"The benchmark's argument is {arg}; unlabelled=target needs a target: to=a+b.")
    return name, options
