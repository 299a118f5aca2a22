"""Draws docs/pictures/sparse_labels.png, and writes the labels it shows, made from the phantom's true ones.

python docs/pictures/sparse_labels.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import tifffile
from matplotlib import pyplot as plt
from scipy import ndimage
from skimage.morphology import skeletonize

from dualrel_jax.data.phantom import phantom

SLICES, BOX_PX, CLICKS = (12, 44, 76, 108), 128, 30
BACKGROUND, MITOCHONDRION = 1, 2  # 0: not labelled
COLOURS = {BACKGROUND: (80, 140, 255), MITOCHONDRION: (255, 170, 0)}


def boxes(truth: np.ndarray) -> np.ndarray:
    """The box with most mitochondrion of each slice."""
    labels, half = np.zeros_like(truth), BOX_PX // 2
    for z in SLICES:
        fraction = ndimage.uniform_filter((truth[z] == MITOCHONDRION).astype(float), BOX_PX)[half:-half, half:-half]
        y, x = np.unravel_index(np.argmax(fraction), fraction.shape)
        box = z, slice(y, y + BOX_PX), slice(x, x + BOX_PX)
        labels[box] = truth[box]
    return labels


def scribbles(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A line along the middle of each mitochondrion, and eight lines through the background."""
    labels = np.zeros_like(truth)
    for z in SLICES:
        inside, outside = ndimage.binary_erosion(truth[z] == MITOCHONDRION, iterations=2), truth[z] == BACKGROUND
        labels[z][ndimage.binary_dilation(skeletonize(inside)) & inside] = MITOCHONDRION
        line = np.zeros_like(outside)
        for _ in range(8):
            y, x = (rng.integers(20, side - 20) for side in outside.shape)
            angle = rng.uniform(0, 2 * np.pi)
            for _ in range(60):
                line[np.clip(int(y), 0, line.shape[0] - 1), np.clip(int(x), 0, line.shape[1] - 1)] = True
                angle += rng.normal(scale=0.15)
                y, x = y + np.sin(angle), x + np.cos(angle)
        away = ndimage.distance_transform_edt(outside) > 2
        labels[z][ndimage.binary_dilation(line) & away] = BACKGROUND
    return labels


def clicks(truth: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    rows = []
    for i in range(CLICKS):
        z, value = SLICES[i % len(SLICES)], (BACKGROUND, MITOCHONDRION)[i // len(SLICES) % 2]
        y, x = rng.permutation(np.argwhere(truth[z] == value))[0]
        rows.append((z, int(y), int(x), value))
    return rows


def painted(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rgb = np.repeat(image[..., None], 3, 2).astype(float)
    for value, colour in COLOURS.items():
        rgb[labels == value] = 0.45 * rgb[labels == value] + 0.55 * np.array(colour)
    return rgb.astype(np.uint8)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("test", "train"):
        image, truth = (volume[:] for volume in phantom("phantom", part))
        tifffile.imwrite(folder / f"{part}.tif", image)
        tifffile.imwrite(folder / f"{part}_labels.tif", (truth > 0).astype(np.uint8))
    truth = np.where(truth > 0, MITOCHONDRION, BACKGROUND).astype(np.uint8)
    rng, z = np.random.default_rng(0), SLICES[1]
    whole = np.zeros_like(truth)
    whole[z] = truth[z]
    points = clicks(truth, rng)
    rows = ["z,y,x,class", *(f"{z},{y},{x},{value == MITOCHONDRION:d}" for z, y, x, value in points)]
    (folder / "points.csv").write_text("\n".join(rows) + "\n")
    kinds = {"whole slice": whole, "boxes": boxes(truth), "scribbles": scribbles(truth, rng)}
    for name, labels in kinds.items():
        tifffile.imwrite(folder / f"{name.replace(' ', '_')}.tif", labels)
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.7), layout="constrained")
    for axis, (name, labels) in zip(axes, kinds.items(), strict=False):
        axis.imshow(painted(image[z], labels[z]))
        axis.set_title(name)
    axes[3].imshow(image[z], cmap="grey")
    for _, y, x, value in (row for row in points if row[0] == z):
        axes[3].plot(x, y, "o", color=np.array(COLOURS[value]) / 255, markersize=7, markeredgecolor="white")
    axes[3].set_title("clicks")
    for axis in axes:
        axis.axis("off")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=75)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
