"""What memory a training step needs by size, patch and batch, from its compiled program; nothing is run."""

import sys
from collections.abc import Iterator

import jax

from dualrel_jax.training.memory import needed_mib
from perf import workload
from perf.devices import compile_step
from perf.report import Table, command

CASES = {  # size -> (patch, labelled crops and as many unlabelled ones); the second is the preset
    "tiny": ((192, 4), (256, 4)),
    "small": ((128, 8), (256, 8)),
    "base": ((256, 8), (512, 8)),
}


def main(quick: bool = False) -> Iterator[Table]:
    rows = []
    for size, cases in ({"test": ((32, 2),)} if quick else CASES).items():
        for patch, batch in cases:
            config = workload.create_config(size, patch, batch, "adamw")
            gib = needed_mib(compile_step(config, 1)) / 2**10
            rows.append([size, config.model.dtype, f"{patch} x {patch}", f"{batch}+{batch}", gib])
    note = (
        f"Peak on one device, as compiled for {jax.default_backend()}: parameters, AdamW, teacher, activations. Muon, "
        "which takes longer to compile, remembers one copy of the kernels less. Compiled for a CPU, convolutions of "
        "bfloat16 are widened to float32: a GPU needs less."
    )
    yield Table("Memory of a training step", ["size", "type", "patch", "crops", "GiB"], rows, note)


if __name__ == "__main__":
    sys.exit(command(main))
