"""A trained model as files that run without this package: `dualrel export RUN`."""

import json
from pathlib import Path

import jax
import jax.export
import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import save

from dualrel_jax import config as config_lib
from dualrel_jax.config.rules import side_multiple
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.io.volume import RANGE_QUANTILES
from dualrel_jax.inference.run import Run, load_run
from dualrel_jax.inference.slice_predictor import chosen_output
from dualrel_jax.packaging.model_card import model_card, pixel_size
from dualrel_jax.training.weights_file import flatten, unflatten
from dualrel_jax.utils import lock
from dualrel_jax.utils.atomic import write_bytes, write_text
from dualrel_jax.utils.jsonl import read_json

PLATFORMS = ("cpu", "cuda", "tpu")
LEAST_CELLS = 8  # smallest side of an image, in pixels of the coarsest level of the network

_LOAD = '''"""Writes the probability of mitochondrion, 0 to 1: python load.py volume.tif probability.tif

Needs jax, numpy, tifffile and safetensors. The pixel size must be about that of the training (see README.md).
"""

import sys
from pathlib import Path

import jax
import numpy as np
import tifffile
from jax import export
from safetensors.numpy import load_file

folder, multiple, least = Path(__file__).parent, {multiple}, {least}
model = jax.jit(export.deserialize(bytearray((folder / "model.stablehlo").read_bytes())).call)
weights = load_file(folder / "weights.safetensors")
volume = tifffile.imread(sys.argv[1]).astype(np.float32)  # z y x, or y x
low = np.quantile(volume, {below}, method="higher")
high = np.quantile(volume, {above}, method="lower")
grey = np.rint(((volume - low) * (255 / (high - low))).clip(0, 255)).astype(np.uint8).reshape(-1, *volume.shape[-2:])
pad = [(0, max(-size % multiple, least - size)) for size in grey.shape[1:]]
probability = [np.asarray(model(weights, np.pad(image, pad, "reflect")[None]))[0] for image in grey]
tifffile.imwrite(sys.argv[2], np.stack(probability)[:, : grey.shape[1], : grey.shape[2]].reshape(volume.shape))
'''

_USE = """With dualrel_jax, this folder is a run:

```sh
dualrel predict FOLDER volume.tif --voxel-nm 30,8,8
dualrel train runs/mine --image volume.tif --labels masks --init FOLDER
```

The model predicts which pixels of an electron microscopy slice are mitochondria. It was trained and scored on
the data below only. On other tissue or microscopes, check its masks by eye before you measure anything with them.

- Input: `b y x` uint8, sides multiples of {multiple} and at least {least} pixels. Scale the grey values so that
  the {below:g} and {above:g} percentiles of the volume become 0 and 255.
- Pixel size: {pixel}. Resample slices that have another pixel size.
- Output: `b y x` float32, the probability of mitochondrion; the run used a threshold of {threshold:g}.
- The model was trained on crops of {patch} pixels and scored on overlapping tiles of {tile}.
  `load.py` predicts whole slices; cut much larger slices into tiles.
- `load.py` runs the model without dualrel_jax, on {platforms}."""


def write_export(workdir: str | Path, config: ConfigDict | None = None) -> dict[str, Path]:
    """Writes the model of the run in `workdir` to its folder `export`.

    Returns:
        name -> path of the files:
        model: StableHLO (`jax.export`) of (weights, image `b y x` uint8) -> probability `b y x` float32, on PLATFORMS,
            for any number of images whose sides are multiples of `side_multiple`, at least LEAST_CELLS times that;
        weights: its first argument, name -> array;
        load: a program that runs both on a TIFF stack;
        card: what the model is, and on what it was trained and scored, as the README.md of Hugging Face;
        config, run, partition: what `predict` and `train --init` need to use the folder as a run;
        package: only with `config.export.to` = bioimageio, its zip.

    Raises:
        InputError: there is no trained run, or `config.predict.prediction_head` is no output of the method.
    """
    run = load_run(workdir, config)
    with lock.folder_writer(run.workdir / "export"):
        paths = _write_files(run, run.workdir / "export")
        if run.config.export.to == "bioimageio":
            from dualrel_jax.packaging.bioimageio import write_package

            paths["package"] = write_package(run, run.workdir / "export" / "bioimageio.zip")
    for name, path in paths.items():
        print(f"  {name}: {path}")
    return paths


def _write_files(run: Run, folder: Path) -> dict[str, Path]:
    names = {"model": "model.stablehlo", "weights": "weights.safetensors", "load": "load.py", "card": "README.md"}
    paths = {name: folder / file for name, file in names.items()}
    weights = flatten(run.variables)
    write_bytes(paths["model"], export_forward(run, weights).serialize())
    write_bytes(paths["weights"], save(weights))
    multiple = side_multiple(run.config.model)
    below, above = RANGE_QUANTILES
    write_text(paths["load"], _LOAD.format(multiple=multiple, least=LEAST_CELLS * multiple, below=below, above=above))
    write_text(paths["card"], model_card(run, _use(run)))
    config_lib.save(run.config, folder / "config.json")
    record = read_json(run.workdir / "run.json", {}, "copy it from where the run was trained")
    for key in ("folder", "slice_checksums"):  # of this machine, and for the training to go on
        record.pop(key, None)
    write_text(folder / "run.json", json.dumps({**record, "step": run.step}, indent=2) + "\n")
    Partition.load(run.workdir / "partition.json").save(folder / "partition.json")
    paths |= {name: folder / f"{name}.json" for name in ("config", "run", "partition")}
    return paths


def _use(run: Run) -> str:
    """How these files are used, for the card."""
    config, multiple = run.config, side_multiple(run.config.model)
    below, above = (100 * quantile for quantile in RANGE_QUANTILES)
    return _USE.format(
        multiple=multiple,
        least=LEAST_CELLS * multiple,
        below=below,
        above=above,
        pixel=pixel_size(run),
        threshold=config.predict.threshold or run.calibrated_threshold(config.predict.prediction_head),
        patch=config.train.crop_px,
        tile=config.predict.tile,
        platforms=", ".join(PLATFORMS),
    )


def export_forward(run: Run, weights: dict[str, np.ndarray]) -> jax.export.Exported:
    """The function (weights, image `b y x` uint8) -> output `config.predict.prediction_head` of the method, `b y x`."""
    multiple = side_multiple(run.config.model)

    def forward(weights, image):
        return chosen_output(run.method, run.config, unflatten(weights), image)

    shape = jax.export.symbolic_shape(
        f"b, {multiple}*h, {multiple}*w", constraints=[f"h >= {LEAST_CELLS}", f"w >= {LEAST_CELLS}"]
    )
    image = jax.ShapeDtypeStruct(shape, np.uint8)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights)
    return jax.export.export(jax.jit(forward), platforms=PLATFORMS)(shapes, image)
