"""What devices exchange in a training step, from programs compiled for 1 to 8 of them, and what many would gain by it.

The devices are simulated on the CPU and nothing is run: the count is of the program, the efficiency is arithmetic.
"""

import sys
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.pipeline.augment import RawBatch
from dualrel_jax.methods import create_method
from dualrel_jax.train import make_train_step
from dualrel_jax.training import hlo
from dualrel_jax.training.checkpoint import abstract
from dualrel_jax.training.state import abstract_state, create_optimizer, params_of
from dualrel_jax.utils import sharding
from perf import workload
from perf.report import Table, command

# What makers state: (matrix rate in bfloat16, flop/s; bytes/s a device sends while it receives as many, half of what is
# stated for both directions), and our guess of the seconds a message takes.
CHIPS = {
    "TPU v5e, ICI": (197e12, 100e9, 1e-6),
    "TPU v5p, ICI": (459e12, 300e9, 1e-6),
    "H100, NVLink within 8": (989e12, 450e9, 2e-6),
    "H100, InfiniBand, 400 Gbit/s a GPU": (989e12, 50e9, 5e-6),
}
SHARE = 0.3  # of the matrix rate that a step is assumed to reach on one device


class GivenCrops:
    """A feed whose crops are the step's input."""

    def crops(self, data, key):
        return data


def compile_step(config: ConfigDict, devices: int) -> jax.stages.Compiled:
    """The step as `dualrel_jax.train` makes it, from shapes alone. Not to be run: its machine code is not optimised.

    Layouts, memory and exchanges are decided before, and large programs take minutes to optimise.
    """
    method, mesh = create_method(config), sharding.create_mesh(devices)
    step = make_train_step(method, create_optimizer(method, config.train), GivenCrops(), config, mesh)
    state = abstract(abstract_state(method, config), sharding.replicated(mesh))
    side, split = config.train.crop_px, sharding.split(mesh)
    labelled, unlabelled = (
        jax.ShapeDtypeStruct((count, side, side), np.uint8, sharding=split)
        for count in (config.train.batch_labelled, config.train.batch_unlabelled)
    )
    lowered = step.func.lower(state, RawBatch(labelled, labelled, unlabelled), **step.keywords)
    return lowered.compile({"xla_backend_optimization_level": 0})


def main(quick: bool = False) -> Iterator[Table]:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    config = workload.create_config("test" if quick else "tiny", 32, 8, "adamw")
    rows = [[n, *exchanged(config, n)] for n in ((1, 2) if quick else (1, 2, 4, 8))]
    columns = ["devices", "exchanges", "all-reduce, kB", "of these gradient, kB", "everything else, kB"]
    note = "What one device puts in, in a step on 8+8 crops of 32 x 32 in all. Everything else grows with the crops; "
    note += "the optimiser, here AdamW, exchanges nothing, since every device has the whole gradient."
    yield Table("What devices exchange in a step", columns, rows, note)
    devices, exchanges, *_, others_kb = rows[-1]
    yield efficiency(exchanges, 1e3 * others_kb * devices / pixels(config))


def pixels(config: ConfigDict) -> int:
    """Of the crops of a step."""
    return (config.train.batch_labelled + config.train.batch_unlabelled) * config.train.crop_px**2


def gradient_bytes(config: ConfigDict) -> float:
    params = params_of(abstract_state(create_method(config), config).variables)
    return 4.0 * sum(leaf.size for leaf in jax.tree.leaves(params))


def exchanged(config: ConfigDict, devices: int) -> list:
    """Number of exchanges of a step; kB that a device puts into all-reduces, of the gradient, and into all else."""
    sent = hlo.communication(compile_step(config, devices).as_text())
    reduced = sum(size for kind, size, _ in sent if kind == "all-reduce")
    others = sum(size for kind, size, _ in sent if kind != "all-reduce")
    return [len(sent), reduced / 1e3, gradient_bytes(config) / 1e3 if sent else 0.0, others / 1e3]


def efficiency(exchanges: int, bytes_a_pixel: float) -> Table:
    """Of size base with its own batch on every device; `bytes_a_pixel` are exchanged beside the gradient."""
    config = workload.create_config("base")
    gradient, others = gradient_bytes(config), bytes_a_pixel * pixels(config)
    rows = []
    for name, (rate, link, message_s) in CHIPS.items():
        for n in (8,) if "within 8" in name else (8, 64, 256):
            row = [name, n]
            for share in (1, 1 / config.train.batch_labelled):  # of the preset's batch on each device
                step_s = share * workload.step_flops(config) / (SHARE * rate)
                sent = 2 * (n - 1) / n * gradient + share * others
                exchange_s = sent / link + (exchanges + 2 * (n - 1)) * message_s
                row += [1e3 * step_s, 1e3 * exchange_s, 100 * step_s / (step_s + exchange_s)]
            rows.append(row)
    columns = ["chips", "number", "step, ms", "exchange, ms", "efficiency, %"]
    columns += ["1+1 crops: step, ms", "exchange, ms", "efficiency, %"]
    note = (
        f"Arithmetic, not a measurement. Every device has the preset's whole batch ({pixels(config) / 1e6:.1f} "
        f"Mpixel), or one crop of each kind, reaches {SHARE:.0%} of its stated matrix rate, and waits while it "
        f"exchanges. The gradient's {gradient / 1e6:.0f} MB go round a ring, 2 (n - 1) / n of them over each link in "
        f"2 (n - 1) messages; {others / 1e6:.1f} MB of everything else are scaled from the table above by pixels."
    )
    return Table("Predicted efficiency of many devices, size base", columns, rows, note)


if __name__ == "__main__":
    sys.exit(command(main))
