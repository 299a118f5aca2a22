"""How long a training step waits for its data, with tf.data and with the volume on the device."""

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.data.pipeline.create import create_feed
from dualrel_jax.methods import create_method
from dualrel_jax.train import make_train_step
from dualrel_jax.training.state import create_optimizer
from dualrel_jax.utils import sharding
from perf import workload
from perf.report import Table, command, quartiles

STEPS = 8  # of a round; more than the batches that tf.data may have ready when nobody took any for a while


def main(quick: bool = False) -> Iterator[Table]:
    size, rounds = ("test", 1) if quick else ("tiny", 6)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(pipeline, size, Path(folder), rounds) for pipeline in ("tf", "resident")]
    columns = ["pipeline", "ms a step", "waiting, %", "time / step on one held batch"]
    note = (
        f"Medians and quartiles of {rounds} rounds of {STEPS} steps, in the order of a training, which asks for the "
        "next batch while a step runs. Waiting: from the end of a step, where it ended first, to its next batch. The "
        "last column includes what the pipeline's threads take from the step's cores."
    )
    yield Table("Waiting for data", columns, rows, note)


def write_volume(folder: Path) -> dict[str, str]:
    """A volume of noise with labels; -> fields of config.data."""
    rng, shape, paths = np.random.default_rng(0), (32, 256, 256), {}
    for name, values in (("image", (0, 255)), ("label", (0, 2))):
        paths[name] = str(folder / f"{name}.tif")
        with open_writer(paths[name], shape, np.uint8) as writer:
            for z in range(shape[0]):
                writer.write(z, rng.integers(*values, shape[1:]).astype(np.uint8))
    return {**paths, "validation_region": "none"}


def measure(pipeline: str, size: str, folder: Path, rounds: int) -> list:
    """The row of one pipeline, from rounds on its data that alternate with rounds on a batch that stays."""
    preset = workload.create_config(size)
    config = dualrel_jax.get_config("dualrel:own,4")
    for section in ("model", "train"):
        config[section].update(preset[section])
    config.data.update({**write_volume(folder), "pipeline": pipeline})
    config = config_lib.resolve(config)
    method, mesh = create_method(config), sharding.create_mesh(1)
    dataset = load_dataset(config.data)
    feed = create_feed(
        config, dataset, make_partition(dataset.train, config.data), read_unlabelled=True, mesh=mesh, start_step=0
    )
    step = make_train_step(method, create_optimizer(method, config.train), feed, config, mesh)
    state = sharding.replicate(workload.initial_state(method, config), mesh)

    def run(data: Iterator) -> tuple[float, float]:
        """Seconds a step, and of these waiting."""
        nonlocal state
        waited, start = 0.0, time.perf_counter()
        for i in range(STEPS):
            asked = time.perf_counter()
            batch = next(data)
            if i and state.step.is_ready():  # an upper bound: it may have ended after it was asked
                waited += time.perf_counter() - asked
            state, _ = step(state, batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / STEPS, waited / STEPS

    held = itertools.repeat(next(feed))
    run(held)
    run(feed)
    rounds_s = np.array([(*run(feed), run(held)[0]) for _ in range(rounds)])
    whole, waiting, without = rounds_s.T
    return [pipeline, quartiles(1000 * whole), quartiles(100 * waiting / whole), quartiles(whole / without)]


if __name__ == "__main__":
    sys.exit(command(main))
