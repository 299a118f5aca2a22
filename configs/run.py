"""The config of the run in a work folder: configs/run.py:runs/demo."""

from pathlib import Path

from dualrel_jax import settings


def get_config(workdir: str):
    return settings.load(Path(workdir) / "config.json")
