"""The config of the run in a work folder: configs/run.py:runs/demo."""

from pathlib import Path

from dualrel_jax import config as config_lib


def get_config(workdir: str):
    return config_lib.load(Path(workdir) / "config.json")
