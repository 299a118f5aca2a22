"""What every tool is given, as files: five labelled slices, the volume around them, a stack to segment; and scores.

The regions are those of configs/domains.py: no crop, labelled or not, comes from what is scored.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from configs.domains import DOMAINS
from dualrel_jax import config as config_lib
from dualrel_jax import get_config
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.metrics.segmentation import Scores

LABELLED = 5
EVERY = 8  # of the slices to segment is scored: 40 nm apart, neighbours look alike
VOXEL_NM = "5,5,5"


class Task(NamedTuple):
    """Files of a folder.

    Attributes:
      folder: images/ZZZ.png and masks/ZZZ.png (0, 255) of the labelled slices, unlabelled/ZZZ.png of all training
        slices, volume.tif (z y x) of these, stack.tif (z y x) to segment, scored/ZZZ.png, its slices that are scored.
      truth: of the scored slices, (z y x) in {0, 1}; not in the folder.
      scored: their indices in the stack.
      columns: of the stack that are scored; the tissue beside them is context.
    """

    folder: Path
    truth: np.ndarray
    scored: list[int]
    columns: slice

    def score(self, masks: np.ndarray) -> dict[str, float]:
        """Pooled scores, as fractions, of the masks of the scored slices, z y x, > 0 is mitochondrion."""
        scores = Scores()
        for z, mask, truth in zip(self.scored, masks, self.truth, strict=True):
            scores.update(z, (mask[:, self.columns] > 0).astype(np.float32), truth[:, self.columns].astype(np.uint8))
        summary = scores.summary()
        return {name: summary[f"{name}_pooled"] for name in ("jac", "precision", "recall")}


def write_task(data: str, folder: Path) -> Task:
    """Writes the files of the Lucchi task, unless they are there.

    Raises:
      InputError: `data`/lucchi is missing.
    """
    config = config_lib.resolve(get_config("dualrel:lucchi")).data.copy_and_resolve_references().unlock()
    train_region, validation_region = DOMAINS["lucchi"]
    config.update({"dir": data, "train_region": train_region, "validation_region": validation_region})
    config.labelled = str(LABELLED)
    dataset = load_dataset(config)
    (train, *_), (held_out,) = dataset.train, dataset.validation
    labelled = [z for _, z in make_partition(dataset.train, config).labelled]
    scored = list(range(0, len(held_out.zs), EVERY))
    truth = np.stack([held_out.whole_label_at(held_out.zs[i]) for i in scored])
    if not (folder / "task.json").exists():
        volume = np.stack([train.view[z] for z in train.zs])
        stack = np.stack([held_out.image[z] for z in held_out.zs])
        _write_images(folder / "images", {z: train.view[z] for z in labelled})
        _write_images(folder / "masks", {z: 255 * train.native_label_at(z) for z in labelled})
        _write_images(folder / "unlabelled", dict(zip(train.zs, volume, strict=True)))
        _write_images(folder / "scored", {i: stack[i] for i in scored})
        tifffile.imwrite(folder / "volume.tif", volume)
        tifffile.imwrite(folder / "stack.tif", stack)
        record = {"labelled": labelled, "training": train_region, "scored": validation_region, "every": EVERY}
        (folder / "task.json").write_text(json.dumps(record, indent=1) + "\n")
    return Task(folder, truth, scored, held_out.window[1])


def _write_images(folder: Path, images: dict[int, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for z, image in images.items():
        Image.fromarray(np.ascontiguousarray(image, np.uint8)).save(folder / f"{z:03}.png")
