"""A training step of ours against its PyTorch twin, and against what this machine's arithmetic and memory allow.

Both do the same: losses and gradients of the student, the teacher's forward pass, the optimiser, the moving average, on
a batch that is there already. Augmentation, which our step does too when it trains, has a row of its own.
"""

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dualrel_jax.data.pipeline import augment
from dualrel_jax.methods import create_method
from dualrel_jax.training import memory
from perf import workload
from perf.report import Table, alternate, command, import_torch, quartiles, step_clock

COLUMNS = ["U-Net, type, crops", "program", "s per step", "crops/s", "time / ours", "share of matrix rate"]
COLUMNS += ["time / floor", "first step, s", "MiB"]
AUGMENTATION = "ours, augmentation alone"
NOTE = (
    "Medians and quartiles of rounds that alternate in one process. time / ours: above 1, ours is faster. Share of "
    "matrix rate: the convolutions' operations over the step's time, relative to the measured rate of a large matrix "
    "product. On one core of a CPU times are CPU time. First step: with all compilation. MiB: ours as compiled, "
    "PyTorch as allocated (GPU only)."
)


class Limits(NamedTuple):
    """What a step needs, counted by hand, and what the machine was measured to do."""

    flops: float
    traffic: float  # bytes
    matrix_rate: float  # flop/s of a large matrix product
    copy_rate: float  # bytes/s of a large copy, read and written

    def times(self) -> tuple[float, float]:
        """Seconds by arithmetic and by traffic; the floor is the larger."""
        return self.flops / self.matrix_rate, self.traffic / self.copy_rate


def main(quick: bool = False, compiled: bool = False) -> Iterator[Table]:
    """`compiled`: beside PyTorch compiled (GPU only), which takes minutes to compile, and nothing else."""
    torch = import_torch()
    gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
    cases = [("base", 512, 8)] if gpu else [("tiny", 0, 0)]
    if quick:
        cases = [("test", 32, 2)]
    rows, floors = [], []
    for size, patch, batch in cases:
        config = workload.create_config(size, patch, batch)
        rates = matrix_rate(jnp.dtype(config.model.dtype), quick), copy_rate(quick)
        limits = Limits(workload.step_flops(config), workload.step_bytes(config), *rates)
        floors.append([describe(config), *(value / 1e9 for value in limits), *limits.times(), max(limits.times())])
        rows += compare(config, limits, twins(gpu, compiled), *((2, 1) if quick else (5, 3)))
    yield Table("Training step", COLUMNS, rows, NOTE)
    columns = ["U-Net, type, crops", "Gflop per step", "GB per step", "matrices, Gflop/s", "copy, GB/s"]
    columns += ["arithmetic, s", "traffic, s", "floor, s"]
    yield Table("The floor of a step, by hand", columns, floors, "Counted by workload.py, the rates measured in JAX.")


def describe(config) -> str:
    """Width, levels and cells of the U-Net, type, crops."""
    model, train = config.model, config.train
    crops = f"{train.batch_labelled}+{train.batch_unlabelled} of {train.crop_px} x {train.crop_px}"
    return f"{model.width} x {model.depth} on cells of {model.stem}, {model.dtype}, {crops}"


def twins(gpu: bool, compiled: bool) -> dict[str, dict[str, bool]]:
    """The PyTorch programs to compare with, name -> options of `twin_step.Training`."""
    if compiled:
        return {"PyTorch, channels last, compiled": {"channels_last": True, "compiled": True}}
    eager = {"PyTorch, channels last": {"channels_last": True}}
    return eager if gpu else {**eager, "PyTorch": {}}


def compare(config, limits: Limits, theirs: dict[str, dict[str, bool]], rounds: int, steps: int) -> list[list]:
    """The rows of one case."""
    import torch

    from perf.twin_step import Training, to_batch

    gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
    method, device = create_method(config), "cuda" if gpu else "cpu"
    state, batch, key = workload.initial_state(method, config), workload.random_batch(config), jax.random.key(1)
    contenders, first, mib = {}, {}, {}
    for name, options in theirs.items():
        training = Training(config, state, device, **options)
        contenders[name], mib[name] = twin(training, to_batch(batch, method, key, device), gpu)
        first[name] = seconds(lambda run=contenders[name]: run(1))
    clock = step_clock()
    start = clock()
    compiled = jax.jit(workload.make_step(method, config), donate_argnums=0).lower(state, batch, key).compile()
    run = ours(compiled, state, batch, key)
    run(1)
    first["ours"], mib["ours"] = clock() - start, lambda: memory.needed_mib(compiled)
    contenders["ours"] = run
    contenders[AUGMENTATION] = augmentation(config)
    contenders[AUGMENTATION](1)

    times = alternate(contenders, rounds, steps)
    rows, crops = [], config.train.batch_labelled + config.train.batch_unlabelled
    for name in ("ours", *theirs, AUGMENTATION):
        row = [describe(config), name, quartiles(times[name])]
        if name in first:
            median = float(np.median(times[name]))
            row += [quartiles(crops / times[name]), quartiles(times[name] / times["ours"]), limits.times()[0] / median]
            row += [median / max(limits.times()), first[name], mib[name]()]
        rows.append(row + [""] * (len(COLUMNS) - len(row)))
    return rows


def ours(compiled, state, batch, key) -> Callable[[int], None]:
    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, diagnostics = compiled(state, batch, key)
        jax.block_until_ready((state, diagnostics))

    return run


def twin(training, batch, gpu: bool) -> tuple[Callable[[int], None], Callable[[], object]]:
    """(runs some steps; returns the peak memory of the first of them, MiB) of the twin's training on a batch."""
    import torch

    peak = []

    def run(steps: int) -> None:
        if gpu and not peak:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        for _ in range(steps):
            training(batch)
        if gpu:
            torch.cuda.synchronize()
            peak.append(torch.cuda.max_memory_allocated() / 2**20)

    return run, lambda: peak[0] if peak else ""


def augmentation(config) -> Callable[[int], None]:
    side, b, u = config.train.crop_px, config.train.batch_labelled, config.train.batch_unlabelled
    crops = lambda n: np.full((n, side, side), 128, np.uint8)  # noqa: E731
    raw = augment.RawBatch(crops(b), crops(b) // 128, crops(u))
    views = jax.jit(lambda key, raw: augment.augment_batch(key, raw, config.augment, side, 2))

    def run(steps: int) -> None:
        for _ in range(steps):
            batch_views = views(jax.random.key(0), raw)
        jax.block_until_ready(batch_views)

    return run


def seconds(act: Callable[[], object]) -> float:
    clock = step_clock()
    start = clock()
    act()
    return clock() - start


def best_of(function, *arguments, repeats: int) -> float:
    """Least seconds of a call of a jitted function, once compiled."""
    run = lambda: jax.block_until_ready(function(*arguments))  # noqa: E731
    run()
    return min(seconds(run) for _ in range(repeats))


def matrix_rate(dtype, quick: bool) -> float:
    """Operations a second of a large matrix product."""
    side = 256 if quick else 1024 if jax.default_backend() == "cpu" else 8192
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)  # ones would take less power, and less time
    return 2 * side**3 / best_of(jax.jit(jnp.matmul), matrix, matrix, repeats=3 if quick else 20)


def copy_rate(quick: bool) -> float:
    """Bytes a second, read and written, of a negated array too large for any cache."""
    count = 2**20 if quick else 2**26
    return 2 * 4 * count / best_of(jax.jit(jnp.negative), jnp.ones(count), repeats=3 if quick else 10)


if __name__ == "__main__":
    sys.exit(command(main))
