"""The whole training state of a run."""

from dualrel_jax import config as config_lib
from dualrel_jax.methods import create_method
from dualrel_jax.training.checkpoint import Checkpoints, abstract
from dualrel_jax.training.state import abstract_state
from dualrel_jax.utils import sharding


def last_state(workdir, config):
    """(step, state) of the last checkpoint."""
    config = config_lib.resolve(config)
    shapes = abstract_state(create_method(config), config)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return checkpoints.restore(abstract(shapes, sharding.replicated(sharding.create_mesh(config.train.devices))))
