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
from benchmarks import workload
from benchmarks.report import Table, command, spread
from dualrel_jax import parallel, settings
from dualrel_jax.data.datasets import load_dataset
from dualrel_jax.data.feed import create_feed
from dualrel_jax.data.partitions import make_partition
from dualrel_jax.data.writers import open_writer
from dualrel_jax.methods import create_method
from dualrel_jax.state import create_optimizer
from dualrel_jax.train import make_train_step

BUFFERED = 8  # batches that tf.data may have ready when nobody took any for a while


def main(quick: bool = False) -> Iterator[Table]:
    size, steps = ("test", 3) if quick else ("tiny", 24)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(pipeline, size, Path(folder), steps) for pipeline in ("tf", "resident")]
    columns = ["pipeline", "ms a step", "of these waiting", "waiting, %", "time / step on one held batch"]
    note = (
        "Waiting: the time `next(feed)` takes once the step before has ended; a training calls it while that step "
        "still runs and waits less. The last column includes what the pipeline's threads take from the step's cores."
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
    return {**paths, "validation_slices": "none"}


def measure(pipeline: str, size: str, folder: Path, steps: int) -> list:
    """The row of one pipeline, from `steps` steps on its data and as many on a batch that stays."""
    preset = workload.create_config(size)
    config = dualrel_jax.get_config("dualrel:own,4")
    for section in ("model", "train"):
        config[section].update(preset[section])
    config.data.update({**write_volume(folder), "pipeline": pipeline})
    config = settings.resolve(config)
    method, mesh = create_method(config), parallel.create_mesh(1)
    dataset = load_dataset(config.data)
    feed = create_feed(config, dataset, make_partition(dataset.train, config.data), True, mesh, 0)
    step = make_train_step(method, create_optimizer(method, config.train), feed, config, mesh)
    state = parallel.replicate(workload.initial_state(method, config), mesh)

    def run(data: Iterator, count: int) -> np.ndarray:
        """(seconds waiting, seconds in all) of each step."""
        nonlocal state
        found = []
        for _ in range(count):
            start = time.perf_counter()
            batch = next(data)
            waited = time.perf_counter() - start
            state, _ = jax.block_until_ready(step(state, batch))
            found.append((waited, time.perf_counter() - start))
        return np.array(found).T

    held = itertools.repeat(next(feed))
    run(held, 2)
    before = run(held, steps // 2)
    run(feed, BUFFERED)
    waiting, whole = run(feed, steps)
    without = np.concatenate([before[1], run(held, steps - steps // 2)[1]])
    row = [spread(1000 * whole), spread(1000 * waiting), float(100 * waiting.sum() / whole.sum())]
    return [pipeline, *row, float(np.median(whole) / np.median(without))]


if __name__ == "__main__":
    sys.exit(command(main))
