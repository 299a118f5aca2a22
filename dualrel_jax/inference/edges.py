"""Masks grown or shrunk by a distance, on disk, block by block."""

import json
import math
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from dualrel_jax.data.io.remote import RemotePath
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.data.io.writers import VolumeWriter
from dualrel_jax.errors import InputError
from dualrel_jax.inference.predict_volume import grey_range, open_writers
from dualrel_jax.inference.prediction_record import EDGE, FRACTION, UNMOVED, write_beside
from dualrel_jax.utils import boxes, interrupt
from dualrel_jax.utils.atomic import remove, write_text
from dualrel_jax.utils.boxes import Box
from dualrel_jax.utils.jsonl import read_json

SIDE, DEPTH = 1024, 16  # of a block, where the mask may be written in blocks; its least slices
APART_NM = 1e9  # nm between slices whose distance is unknown


def check_edge(volume: Volume, output: Path | RemotePath, edge_nm: float) -> None:
    """InputError where a distance in nm has no meaning, or the finished mask cannot be replaced by a moved one."""
    if edge_nm and not isinstance(output, Path):
        raise InputError(
            f"config.predict.edge_nm is {edge_nm:g}, but {output} lies in a store; expected an output on a disk: leave "
            "edge_nm at 0, or copy the mask there afterwards."
        )
    if edge_nm and volume.voxel_nm is None:
        raise InputError(
            f"config.predict.edge_nm is {edge_nm:g}, but {volume.path} does not state its voxel size; set it by "
            "--voxel-nm z,y,x, in nm."
        )
    if edge_nm and abs(edge_nm) < (least := np.nanmin(volume.voxel_nm)):
        raise InputError(
            f"config.predict.edge_nm is {edge_nm:g}, but voxels of {volume.path} are {least:g} nm apart, so no voxel "
            f"would change; expected {least:g} or more, or 0."
        )


def move_edges_on_disk(
    volume: Volume, region: Box, output: Path, settings: ConfigDict
) -> tuple[dict[str, Path], float]:
    """Grows or shrinks the finished mask `output` of a region of `volume` by `settings.edge_nm`.

    The mask keeps its name and its place until the new one is complete. Its record says until then that its edges are
    still to be moved, so that the same command moves them once, and does not predict again.

    Returns:
        Paths of the new picture and record by name; fraction of the region that is mitochondrion.
    """
    interrupt.describe(
        "Stopped while the edges of the mask were moved; the same command moves them, and predicts nothing again.",
        patience_s=interrupt.PATIENCE_S,
    )
    mask = open_volume(output, verbose=False)
    about = output.with_name(f"{output.stem}.json")
    record = read_json(about, {}, "predict again")
    writer = open_writers(volume, region, output, settings)["mask"]
    remove(writer.part)  # of an earlier command, which may have moved them by another distance
    with writer:
        count = move_edges(mask, writer, volume.voxel_nm, settings.edge_nm)
        writer.finish()
        record.pop(UNMOVED, None)
        write_text(about, json.dumps(record, indent=2) + "\n")  # before: a kill must not let them be moved twice
        writer.publish()
        fraction = count / math.prod(mask.shape)
        record |= {EDGE: settings.edge_nm, FRACTION: fraction}
        paths = write_beside(volume, region, grey_range(volume, settings.intensity_range), output, record)
    return paths, fraction


def move_edges(mask: Volume, writer: VolumeWriter, voxel_nm: Voxel, edge_nm: float) -> int:
    """Writes a mask (z y x, above 0) grown or shrunk by `edge_nm`, block by block; -> its voxels.

    Each block is read with all that its distances reach, so the result is that of the whole mask.
    """
    nm = tuple(APART_NM if math.isnan(size) else size for size in voxel_nm)
    reach = [math.ceil(abs(edge_nm) / size) for size in nm]
    side = SIDE if writer.resumable else max(mask.shape)
    depth = -(-DEPTH // writer.chunk[0]) * writer.chunk[0]
    count = 0
    for box in boxes.grid(mask.shape, (depth, side, side)):
        interrupt.check()
        outer = boxes.grown(box, reach, mask.shape)
        block = moved_mask(mask[outer] > 0, nm, edge_nm)[boxes.within(box, outer)]
        writer.write_block(tuple(part.start for part in box), np.where(block, np.uint8(255), np.uint8(0)))
        count += int(np.count_nonzero(block))
    return count


def moved_mask(mask: np.ndarray, voxel_nm: tuple[float, float, float], edge_nm: float) -> np.ndarray:
    """A mask z y x, bool, with all voxels added that are at most `edge_nm` from one of it, centre to centre.

    Below 0 the same is done to the background, so that the mask shrinks. What lies outside the array adds nothing.
    """
    if not edge_nm or mask.all() or not mask.any():
        return mask
    growing = mask if edge_nm > 0 else ~mask
    near = ndimage.distance_transform_edt(~growing, sampling=voxel_nm) <= abs(edge_nm) * (1 + 1e-9)
    return near if edge_nm > 0 else ~near
