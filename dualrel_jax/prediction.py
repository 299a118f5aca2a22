"""Segments a volume with a trained model, slice by slice, into a mask on disk."""

import contextlib
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from dualrel_jax import pictures
from dualrel_jax.data.own import parse_voxel
from dualrel_jax.data.volumes import Volume, intensity_range, open_volume, to_uint8
from dualrel_jax.data.writers import open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.methods.base import Variables
from dualrel_jax.predictor import Predictor, probabilities
from dualrel_jax.run import load_run


def predict_volume(
    predictor: Predictor, variables: Variables, volume: Volume, pixel_nm, output: Path, settings: ConfigDict
) -> tuple[dict[str, Path], float]:
    """Writes the mask (0 / 255), if asked for the probability (0..255), and a picture of four slices.

    -> (name -> path, share of the volume that is mitochondrion).
    """
    if output.exists() and output.resolve() == Path(volume.path).resolve():
        raise InputError(f"config.predict.output is {output}, the volume itself; choose another name for the mask.")
    output.parent.mkdir(parents=True, exist_ok=True)
    paths = {"mask": output}
    if settings.probability:
        paths["probability"] = output.with_name(f"{output.stem}_probability{output.suffix}")
    shown, panels, found = set(np.linspace(0, len(volume) - 1, 4).round().astype(int)), [], 0
    grey = intensity_range(volume)
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(open_writer(path, volume.shape, np.uint8, volume.voxel_nm))
            for name, path in paths.items()
        }
        slices = probabilities(predictor, variables, volume, grey, pixel_nm)
        for z, probability in tqdm(slices, total=len(volume), desc="predict", unit="slice", mininterval=2):
            mask = probability > settings.threshold
            found += np.count_nonzero(mask)
            writers["mask"].write(z, np.where(mask, 255, 0).astype(np.uint8))
            if settings.probability:
                writers["probability"].write(z, np.round(probability * 255).astype(np.uint8))
            if z in shown:
                panels.append((to_uint8(volume[z], grey), mask, None, f"z = {z}"))
    paths["picture"] = pictures.mask_sheet(panels, output.with_name(f"{output.stem}.png"))
    return paths, found / np.prod(volume.shape)


def predict(workdir: str | Path, config: ConfigDict | None = None) -> dict[str, Path]:
    """Segments `config.predict.input` (or the run's test volume) with the model in `workdir`; -> name -> path."""
    run = load_run(workdir, config)
    settings = run.config.predict
    if settings.input:
        volume = open_volume(settings.input, parse_voxel(settings.voxel_nm, "predict.voxel_nm"))
    else:
        volume = run.test_parts()[0].image
    if volume.voxel_nm is None and run.pixel_nm is not None:
        print(
            f"{volume.path} does not say its voxel size: its pixels are taken to be those of the training, "
            f"{run.pixel_nm[0]:g} x {run.pixel_nm[1]:g} nm; --config.predict.voxel_nm=z,y,x sets them."
        )
    output = Path(settings.output or Path(workdir) / "prediction" / "mask.tif")
    paths, share = predict_volume(run.predictor, run.variables, volume, run.pixel_nm, output, settings)
    print(f"Mitochondria fill {100 * share:.1f} % of the {len(volume)} slices of {volume.path}.")
    for name, path in paths.items():
        print(f"  {name}: {path}")
    return paths
