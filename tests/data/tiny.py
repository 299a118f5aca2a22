"""Tiny folders with the layouts of the public data sets, where the real ones are, and slices to cut crops from."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

import dualrel_jax
from dualrel_jax.data.datasets.labels import LabelRule
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.volume import Volume


def config(name, labelled="1/4", **fields):
    """The data part of a config at the volume's own pixels, with some fields changed."""
    data = dualrel_jax.get_config(f"supervised:{name},{labelled}").data
    data.update({"pixel_nm": 0.0, **fields})
    return data


def real_data(name):
    """Folder of a real data set; skips the test where it is absent."""
    folder = Path(os.environ.get("DUALREL_DATA") or "no real data") / name
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
    writers = {"lucchi": _lucchi, "lucchi_pp": _lucchi_pp, "vnc": _vnc, "mitoem_r": _mitoem, "mitoem_h": _mitoem}
    writers |= dict.fromkeys(("fly_brain", "glycolytic_muscle"), _empiar)
    writers[name](folder)
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


def _empiar(folder):
    folder.mkdir(parents=True)
    image, mask = volume(12)
    tifffile.imwrite(folder / "images.tif", image)
    tifffile.imwrite(folder / "instances.tif", ndimage.label(mask)[0].astype(np.uint16))


def write_test_volume(folder, shape=(5, 80, 96), empty=1):
    """Writes a labelled volume, one slice without foreground; returns the config fields that name it."""
    image, mask = volume(shape[0], shape[1:], seed=5)
    mask[empty] = False
    tifffile.imwrite(folder / "test.tif", image)
    tifffile.imwrite(folder / "test_label.tif", mask.astype(np.uint8))
    return {"test_image": str(folder / "test.tif"), "test_label": str(folder / "test_label.tif")}


def part(name, slices, shape, seed=0, empty=()):
    """A training part of noise, every window of which is unlike any other, with a few foreground and ignored pixels
    where no image value tells; the slices `empty` have no foreground."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (slices, *shape), np.uint8)
    label = rng.choice(np.array([0, 1, 2], np.uint8), image.shape, p=[0.96, 0.02, 0.02])
    for z in empty:
        label[z][label[z] == 1] = 0
    zs = tuple(range(slices))
    rule = LabelRule("binary", 2, {z: z for z in zs}, foreground=1)
    volumes = Volume.from_array(image), Volume.from_array(label)
    return Part(name, *volumes, zs=zs, labelled_zs=zs, rule=rule, pixel_nm=None, range=(0, 255))


def locate(crop, slices):
    """(slice, y, x): the one place among the slices (part, z) where a crop is cut."""
    found = []
    for i, (part, z) in enumerate(slices):
        windows = np.lib.stride_tricks.sliding_window_view(part.image_at(z), crop.shape)
        found += [(i, int(y), int(x)) for y, x in np.argwhere((windows == crop).all(axis=(2, 3)))]
    assert len(found) == 1, f"found in {len(found)} places"
    return found[0]


def check_crops(raw, labelled, unlabelled, share):
    """Asserts that crops are windows of the right slices with their own labels; -> (places labelled, unlabelled)."""
    raw = type(raw)(*map(np.asarray, raw))
    assert all(crops.dtype == np.uint8 for crops in raw)
    places = [locate(crop, labelled) for crop in raw.image]
    side = raw.image.shape[1]
    for (i, y, x), label in zip(places, raw.label, strict=True):
        whole = labelled[i].part.label_at(labelled[i].z)
        assert np.array_equal(label, whole[y : y + side, x : x + side])
        assert share < 1 or 1 in label or 1 not in whole
    return places, [locate(crop, unlabelled) for crop in raw.unlabelled]
