"""What is written beside a mask: the record of what it depends on, and a picture."""

import hashlib
import json
import zlib
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.io.fingerprint import fingerprint
from dualrel_jax.data.io.remote import RemotePath, absolute_path, beside
from dualrel_jax.data.io.volume import Volume, open_volume, to_uint8
from dualrel_jax.inference.volume_predictor import VolumePredictor
from dualrel_jax.methods.base import Variables
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.boxes import Box
from dualrel_jax.utils.jsonl import read_json, without_nan
from dualrel_jax.utils.ranges import central_window, evenly_spaced
from dualrel_jax.visualization import overlays

THRESHOLD = "config.predict.threshold"  # the field of the record that says where the mask begins
FRACTION = "fraction of mitochondria"  # the field, of the voxels of the mask
EDGE = "config.predict.edge_nm"  # how far the edges of the mask were moved
UNMOVED = "edges to be moved in"  # the field, until they are: the digest of the job that made the mask
_FREE = ("input", "output", "voxel_nm", "batch")  # fields that another may continue with, or that the volume holds
_SHOWN = 2048  # side of the picture's part of a slice, pixels


def digest_of(variables: Variables) -> str:
    """16 letters that distinguish trained models."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def describe_job(
    model: VolumePredictor, volume: Volume, shown: Volume, settings: ConfigDict, output: Path | RemotePath
) -> dict:
    """What the output depends on, name -> value: for `PredictionProgress`, and as a record beside the output.

    Args:
        volume: what is predicted.
        shown: whose voxels the outputs have.
        output: path of the mask, which in a store belongs to the description: what describes it lies elsewhere.
    """
    return {
        "volume": absolute_path(shown.path),
        "shape (z y x)": list(shown.shape),
        "voxel size": shown.voxel_nm and list(shown.voxel_nm),
        "content": [*model.grey, fingerprint(volume)],
        "model": digest_of(model.variables),
        "training pixel size": model.pixel_nm and list(model.pixel_nm),
        **({"output": str(output)} if isinstance(output, RemotePath) else {}),
        **({"points": zlib.crc32(Path(settings.points).read_bytes())} if settings.points else {}),
        **{f"config.predict.{key}": value for key, value in settings.to_dict().items() if key not in _FREE},
        EDGE: 0.0,  # of the mask as it is predicted
    }


def mark_unmoved(job: dict, settings: ConfigDict) -> dict:
    """What the record of a mask says whose edges are still to be moved."""
    return {UNMOVED: _digest_of_job(job)} if settings.edge_nm else {}


def is_unmoved(output: Path | RemotePath, job: dict) -> bool:
    """Whether the record beside `output` is that of a mask of this job, with its edges still to be moved."""
    return edges_to_be_moved(beside(output)) == _digest_of_job(job)


def edges_to_be_moved(mask: Path) -> str | None:
    """The digest of the job that made `mask`, where the record beside it says that its edges are still to be moved."""
    record = mask.with_name(f"{mask.stem}.json")
    return read_json(record, {}, "remove it").get(UNMOVED) if record.is_file() else None


def _digest_of_job(job: dict) -> str:
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]


def write_beside(volume: Volume, region: Box, grey: tuple[float, float], output: Path, record: dict) -> dict[str, Path]:
    """Writes the picture and the record beside a finished mask; -> name -> path."""
    local = beside(output)
    about = local.with_name(f"{local.stem}.json")
    write_text(about, json.dumps(without_nan(record), indent=2) + "\n")
    return {"picture": draw_slices(volume, region, grey, output), "about": about}


def draw_slices(volume: Volume, region: Box, grey: tuple[float, float], output: Path) -> Path:
    """Four slices of the region, of large ones the middle, with the outlines of the mask."""
    mask = open_volume(output, verbose=False)
    z, y, x = region
    shown = central_window(mask.shape[1:], _SHOWN)
    seen = [slice(part.start + m.start, part.start + m.stop) for part, m in zip((y, x), shown, strict=True)]
    panels = [
        (to_uint8(volume[z.start + at, *seen], grey), mask[at, *shown] > 0, None, f"z = {z.start + at}")
        for at in evenly_spaced(range(len(mask)), 4)
    ]
    pixel_nm = volume.voxel_nm and volume.voxel_nm[1:]
    return overlays.mask_sheet(panels, beside(output).with_name(f"{output.stem}.png"), pixel_nm)
