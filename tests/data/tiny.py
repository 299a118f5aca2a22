"""Tiny folders with the layouts of the public data sets, and where the real ones are."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

import dualrel_jax


def config(name, labelled="1/4", **fields):
    """The data part of a config, with some fields changed."""
    data = dualrel_jax.get_config(f"supervised:{name},{labelled}").data
    data.update(fields)
    return data


def real_data(name):
    """Folder of a real data set; skips the test where it is absent."""
    folder = Path(os.environ.get("DUALREL_DATA", Path(__file__).parents[2] / "../shared/data")) / name
    if not folder.is_dir():
        pytest.skip(f"no real {name}; set DUALREL_DATA")
    return folder


def volume(slices, shape=(40, 48), seed=0):
    """(image uint8 z y x, mask bool z y x) with foreground and background in every slice."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(slices, *shape)), (0, 4, 4))
    mask = field > np.quantile(field, 0.7, axis=(1, 2), keepdims=True)
    image = 150 - 70 * mask + rng.normal(scale=12, size=mask.shape)
    return image.clip(0, 255).astype(np.uint8), mask


def write_slices(folder, slices, names):
    folder.mkdir(parents=True, exist_ok=True)
    for array, name in zip(slices, names, strict=True):
        if name.endswith(".png"):
            Image.fromarray(array).save(folder / name)
        else:
            tifffile.imwrite(folder / name, array)


def write_layout(name, data_dir):
    """Writes `data_dir/name` as its authors lay it out."""
    folder = Path(data_dir) / name
    {"lucchi": _lucchi, "lucchi_pp": _lucchi_pp, "vnc": _vnc}.get(name, _mitoem)(folder)
    return folder


def _lucchi(folder):
    folder.mkdir(parents=True)
    for prefix, slices in (("training", 12), ("testing", 5)):
        image, mask = volume(slices, seed=slices)
        tifffile.imwrite(folder / f"{prefix}.tif", image)
        tifffile.imwrite(folder / f"{prefix}_groundtruth.tif", mask.astype(np.uint8) * 255)


def _lucchi_pp(folder):
    for split, slices in (("Train", 12), ("Test", 5)):
        image, mask = volume(slices, seed=slices)
        grey = mask.astype(np.uint8) * 255
        opaque = np.full_like(grey, 255)
        out = np.stack([grey, grey, grey, opaque], axis=-1) if split == "Train" else grey
        write_slices(folder / "Lucchi++" / f"{split}_In", image, [f"mask{z:04d}.png" for z in range(slices)])
        write_slices(folder / "Lucchi++" / f"{split}_Out", out, [f"{z}.png" for z in range(slices)])


def _mitoem(folder):
    numbers = [*range(6), *range(400, 403), 500]
    image, mask = volume(len(numbers))
    ids = np.stack([ndimage.label(slice_mask)[0] + 300 * slice_mask for slice_mask in mask]).astype(np.uint16)
    write_slices(folder / "im", image, [f"im{number:04d}.png" for number in numbers])
    write_slices(folder / "mito-train-v2", ids[:6], [f"seg{number:04d}.tif" for number in numbers[:6]])
    write_slices(folder / "mito-val-v2", ids[6:9], [f"seg{number:04d}.tif" for number in numbers[6:9]])


def _vnc(folder):
    for stack in (1, 2):
        image, mask = volume(20, seed=stack)
        write_slices(folder / f"stack{stack}" / "raw", image, [f"{z:02d}.tif" for z in range(20)])
        if stack == 1:
            grey = np.where(mask, 255, 40).astype(np.uint8)
            write_slices(folder / "stack1" / "mitochondria", grey, [f"{z:02d}.png" for z in range(20)])


def write_test_volume(folder, shape=(5, 80, 96), empty=1):
    """Writes a labelled volume, one slice without foreground; returns the config fields that name it."""
    image, mask = volume(shape[0], shape[1:], seed=5)
    mask[empty] = False
    tifffile.imwrite(folder / "test.tif", image)
    tifffile.imwrite(folder / "test_label.tif", mask.astype(np.uint8))
    return {"test_image": str(folder / "test.tif"), "test_label": str(folder / "test_label.tif")}
