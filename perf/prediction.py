"""Prediction of slices by tiles: ours against the PyTorch twin, and what memory a long stack takes.

Both have the same tiles, overlap and blending, and a thread that prepares one slice while another is computed.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from dualrel_jax.config.rules import side_multiple
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.inference.predict_volume import predict_volume
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.inference.tiling import Tiles
from dualrel_jax.methods import create_method
from dualrel_jax.training.state import params_of
from dualrel_jax.utils import sharding
from perf import workload
from perf.processes import run_python
from perf.report import Table, alternate, command, import_torch, quartiles

STACK = (165, 768, 1024)  # of Lucchi et al.


class TwinPredictor:
    """`Predictor`, with the twin's U-Net."""

    def __init__(self, config, params, device: str, in_flight: int, *, channels_last: bool, compiled: bool = False):
        import torch

        from perf.twin import DualRelNetwork, to_torch

        self.in_flight, self._config, self._device = in_flight, config, device
        self._network = DualRelNetwork(config)
        self._network.load_state_dict(to_torch(params))
        layout = {"memory_format": torch.channels_last} if channels_last else {}
        self._network.to(device, **layout).eval()
        self._probability = torch.compile(self._network.probability) if compiled else self._network.probability

    def __call__(self, variables, image: np.ndarray) -> np.ndarray:
        import torch

        settings = self._config.predict
        tiles = Tiles(image.shape, settings.tile, settings.overlap, side_multiple(self._config.model))
        cut = tiles.cut(image)
        outputs = []
        with torch.inference_mode():
            for chunk in np.array_split(cut, -(-len(cut) // settings.batch)):
                grey = torch.from_numpy(chunk)[:, None].to(self._device).float() / 255
                outputs.append(self._probability((grey - 0.5) / 0.25).cpu().numpy())
        return tiles.merge(np.concatenate(outputs))


def main(quick: bool = False) -> Iterator[Table]:
    yield speed(quick)
    yield memory(quick)


def speed(quick: bool) -> Table:
    torch = import_torch()
    gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
    config = workload.create_config("test" if quick else "base" if gpu else "tiny")
    if quick:
        config.predict.update({"tile": 64, "overlap": 16})
    shape = (100, 150) if quick else STACK[1:]
    method = create_method(config)
    variables = workload.initial_state(method, config).variables
    params = jax.device_get(params_of(variables)["student"])
    device = "cuda" if gpu else "cpu"
    predictors = {"ours": Predictor(method, config, sharding.create_mesh(1))}
    for in_flight in (1, 2):
        name = f"PyTorch, channels last, {in_flight} in flight"
        predictors[name] = TwinPredictor(config, params, device, in_flight, channels_last=True)
    predictors["PyTorch, 1 in flight"] = TwinPredictor(config, params, device, 1, channels_last=False)
    if gpu:
        name = "PyTorch, channels last, compiled, 1 in flight"
        predictors[name] = TwinPredictor(config, params, device, 1, channels_last=True, compiled=True)
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)

    def slices(predictor):
        pool = ThreadPoolExecutor(predictor.in_flight)  # kept: each thread of PyTorch tries its convolutions anew
        return lambda count: list(pool.map(predictor, itertools.repeat(variables), [image] * count))

    contenders = {name: slices(predictor) for name, predictor in predictors.items()}
    for run in contenders.values():
        run(2)
    times = alternate(contenders, *((2, 2) if quick else (3, 3)))
    rows, megapixels = [], np.prod(shape) / 1e6
    for name, seconds in times.items():
        whole = float(STACK[0] * np.prod(STACK[1:]) / 1e6 * np.median(seconds) / megapixels)
        rows.append([name, quartiles(megapixels / seconds), quartiles(seconds / times["ours"]), whole])
    columns = ["program", "Mpixel/s", "time / ours", "{} x {} x {} slices, s".format(*STACK)]
    note = (
        f"U-Net {config.model.width} x {config.model.depth}, slices of {shape[0]} x {shape[1]}, tiles of "
        f"{config.predict.tile} that share at least {config.predict.overlap} pixels, {config.predict.batch} at a time. "
        "The last column is calculated."
    )
    return Table("Prediction by tiles", columns, rows, note)


def memory(quick: bool) -> Table:
    """Peak memory and time of whole predictions, from file to file, each in a process of its own."""
    rows, shape = [], (64, 64) if quick else (256, 256)
    with tempfile.TemporaryDirectory() as folder:
        for count in (16, 160) if quick else (165, 1650):
            path = Path(folder) / f"{count}.tif"
            with open_writer(path, (count, *shape), np.uint8) as writer:
                rng = np.random.default_rng(0)
                for z in range(count):
                    writer.write(z, rng.integers(0, 255, shape).astype(np.uint8))
            code = f"from perf.prediction import predict_file; predict_file({str(path)!r})"
            ended = run_python(code)
            seconds, before = map(float, ended.output.split()[-2:])
            rows.append([count, ended.peak_mib, ended.peak_mib - before, seconds, 1000 * seconds / count])
    columns = ["slices", "peak MiB", "above what the start took", "s", "ms a slice"]
    note = (
        f"Slices of {shape[0]} x {shape[1]} and a network of width 4, so that kept slices would show: as float32, "
        f"{np.prod(shape) * 4 * rows[-1][0] / 2**20:.0f} MiB for all of the last row. Compilation and picture included."
    )
    return Table("Prediction of short and long stacks", columns, rows, note)


def predict_file(path: str) -> None:
    """Segments the volume beside it with an untrained network; prints seconds and the MiB before."""
    from perf.processes import peak_mib

    config = workload.create_config("test")
    with config.unlocked():
        config.predict.update({"tile": 128, "overlap": 16})
    method = create_method(config)
    predictor = Predictor(method, config, sharding.create_mesh(1))
    variables = workload.initial_state(method, config).variables
    volume, before, start = open_volume(path, verbose=False), peak_mib(), time.perf_counter()
    output = Path(path).with_suffix(".out.tif")
    predict_volume(predictor, variables, volume, output, config.predict, pixel_nm=None)
    print(time.perf_counter() - start, before)


if __name__ == "__main__":
    sys.exit(command(main))
