"""Which slices or boxes to label next: those with the most disagreement between the predictions of a trained model."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.pipeline.crops import known_box
from dualrel_jax.errors import InputError
from dualrel_jax.inference.disagreement import disagreement_predictor
from dualrel_jax.inference.places import write_places
from dualrel_jax.inference.run import Run, load_run
from dualrel_jax.inference.threshold import UNKNOWN_NM
from dualrel_jax.utils import lock
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.utils.tables import csv_table
from dualrel_jax.utils.text import quoted
from dualrel_jax.visualization import overlays


class Candidate(NamedTuple):
    """A slice or a box in one, in pixels of its volume."""

    part: Part
    z: int
    y: tuple[int, int]
    x: tuple[int, int]
    disagreement: float  # mean over its pixels, bits

    @property
    def box_nm(self) -> np.ndarray:
        """Lower and upper corner (z, y, x): 2 3. Unknown z sizes count as UNKNOWN_NM, unknown voxel sizes as 1 nm."""
        corners = np.array([[self.z, self.y[0], self.x[0]], [self.z, self.y[1], self.x[1]]])
        return corners * np.nan_to_num(self.part.image.voxel_nm or (1, 1, 1), nan=UNKNOWN_NM)

    @property
    def centre_nm(self) -> np.ndarray:
        """(z, y, x)."""
        return self.box_nm.mean(axis=0)

    @property
    def is_whole_slice(self) -> bool:
        """Or all of the part's window in it."""
        ends = zip(self.part.corner, self.part.view.shape[1:], strict=True)
        return (self.y, self.x) == tuple((start, start + size) for start, size in ends)

    def describe(self) -> str:
        box = f", y {self.y[0]}-{self.y[1] - 1}, x {self.x[0]}-{self.x[1] - 1}"
        return f"slice {self.z} of {Path(self.part.image.path).name}" + ("" if self.is_whole_slice else box)


class Pick(NamedTuple):
    """A region chosen for labelling."""

    region: Candidate
    novelty: float  # 0: inside a labelled or chosen region; 1: as far from all of them as even spacing would put it


def suggest(workdir: str | Path, config: ConfigDict | None = None) -> dict[str, Path]:
    """Chooses `config.suggest.count` regions of the training volumes to label next for the run in `workdir`.

    Writes suggestions.csv (the chosen regions by rank, then all other candidates), suggestions.png (the chosen slices)
    and, if all of them have labels already, partition.json, with which a new training uses those labels
    (`--config.data.partition_file`). With `config.suggest.points`, places of the last prediction to classify instead.

    Returns:
        table, picture and partition -> path.

    Raises:
        InputError: there is no run, or `config.suggest.input` is set without `points`.
    """
    if config is not None and config.suggest.points:
        with lock.folder_writer(Path(workdir) / "points"):
            return write_places(Path(workdir), config)
    if config is not None and config.suggest.input:
        raise InputError(
            f"config.suggest.input is {config.suggest.input}, but slices to label next are those of the training "
            "volumes; leave it out, or set config.suggest.points=15 as well, which are drawn from it."
        )
    run = load_run(workdir, config)
    with lock.folder_writer(run.workdir / "suggestions"):
        return _suggest(run, run.workdir / "suggestions")


def _suggest(run: Run, folder: Path) -> dict[str, Path]:
    settings = run.config.suggest
    partition = Partition.load(run.workdir / "partition.json")
    predictor = disagreement_predictor(run)
    candidates, labelled = candidates_of(run, partition)
    regions = []
    maps = predictor.each(run.variables, (part.image_at(z) for part, z in candidates))
    bar = tqdm(maps, "suggest", len(candidates), unit="slice", mininterval=2)
    for (part, z), disagreement in zip(candidates, bar, strict=True):
        regions.extend(regions_of(part, z, disagreement, settings.box_px))
    picks = choose(regions, [_labelled_region(part, z) for part, z in labelled], settings.count)
    slices = {(pick.region.part.name, pick.region.z): pick.region.part.image_at(pick.region.z) for pick in picks}
    maps_of_picks = dict(zip(slices, predictor.each(run.variables, slices.values()), strict=True))

    paths = {"table": folder / "suggestions.csv", "picture": folder / "suggestions.png"}
    write_table(picks, regions, paths["table"])
    draw_picks(picks, maps_of_picks, paths["picture"])
    if all(pick.region.z in pick.region.part.labelled_zs for pick in picks) and not settings.box_px:
        paths["partition"] = folder / "partition.json"
        _add_to_labelled(partition, picks).save(paths["partition"])
    print("Label next, the most useful first:")
    for pick in picks:
        print(f"  {pick.region.describe()}")
    for name, path in paths.items():
        print(f"  {name}: {path}")
    return paths


def regions_of(part: Part, z: int, disagreement: np.ndarray, box_px: int) -> Iterator[Candidate]:
    """The slice as one region, or cut into boxes of `box_px` volume pixels (smaller at the far edges).

    disagreement: `y x` in bits, at the training pixel size.
    """
    native = part.view.shape[1:]
    y_start, x_start = part.corner
    cuts = [[(a, min(a + (box_px or size), size)) for a in range(0, size, box_px or size)] for size in native]
    scale = [size / whole for size, whole in zip(disagreement.shape, native, strict=True)]
    for y in cuts[0]:
        for x in cuts[1]:
            inside = tuple(
                slice(int(a * s), max(int(b * s), int(a * s) + 1)) for (a, b), s in zip((y, x), scale, strict=True)
            )
            y_range, x_range = (y[0] + y_start, y[1] + y_start), (x[0] + x_start, x[1] + x_start)
            yield Candidate(part, z, y_range, x_range, float(disagreement[inside].mean()))


def choose(regions: Sequence[Candidate], labelled: Sequence[Candidate], count: int) -> list[Pick]:
    """At most `count` regions of largest disagreement x novelty, chosen one after the other; no region twice.

    Beyond the first, only regions whose disagreement and novelty are above 0.

    Novelty is the distance of a region's centre to the nearest labelled or already chosen region of the same volume,
    divided by the distance that these would have if they were evenly spaced, and at most 1: neighbouring slices are
    alike.
    """
    extent = np.ptp([region.centre_nm for region in (*regions, *labelled)], axis=0)
    reach = max(np.linalg.norm(extent) / (len(labelled) + count), 1e-9)
    picks = []
    novelty = np.array([min([_novelty(region, other, reach) for other in labelled], default=1.0) for region in regions])
    disagreement = np.array([region.disagreement for region in regions])
    for _ in range(min(count, len(regions))):
        gain = disagreement * novelty
        best = int(np.argmax(gain))
        if picks and gain[best] <= 0:
            break
        picks.append(Pick(regions[best], float(novelty[best])))
        novelty = np.minimum(novelty, [_novelty(region, regions[best], reach) for region in regions])
    return picks


def _novelty(region: Candidate, other: Candidate, reach: float) -> float:
    if region.part.image.path != other.part.image.path:
        return 1.0
    low, high = other.box_nm
    return min(1.0, float(np.linalg.norm(region.centre_nm - region.centre_nm.clip(low, high))) / reach)


def write_table(picks: Sequence[Pick], regions: Sequence[Candidate], path: Path) -> None:
    """One row per region: the chosen ones by rank, then the others by disagreement; positions in voxels."""
    chosen = {id(pick.region) for pick in picks}
    others = sorted((region for region in regions if id(region) not in chosen), key=lambda region: -region.disagreement)
    ranked = [(rank, pick.region, f"{pick.novelty:.3f}") for rank, pick in enumerate(picks, 1)]
    ranked += [("", region, "") for region in others]
    columns = ["rank", "volume", "z", "y_start", "y_stop", "x_start", "x_stop", "disagreement_bits", "novelty"]
    rows = []
    for rank, region, novelty in ranked:
        position = [region.part.image.path, region.z, *region.y, *region.x]
        rows.append([rank, *position, f"{region.disagreement:.5f}", novelty])
    write_text(path, csv_table(columns, rows))


def draw_picks(picks: Sequence[Pick], maps: dict[tuple[str, int], np.ndarray], path: Path) -> Path:
    """The slices of the chosen regions with their disagreement as heat, by rank; boxes are framed."""
    panels = []
    for rank, pick in enumerate(picks, 1):
        region, image = pick.region, pick.region.part.image_at(pick.region.z)
        scale = np.array(image.shape) / region.part.view.shape[1:]
        corner = np.subtract((region.y[0], region.x[0]), region.part.corner) * scale
        size = (np.ptp(region.y), np.ptp(region.x)) * scale
        box = None if region.is_whole_slice else (corner[1], corner[0], size[1], size[0])
        heat = maps[region.part.name, region.z]
        panels.append(overlays.HeatPanel(image, heat, f"{rank}. {region.describe()}", box))
    return overlays.heat_sheet(panels, "disagreement between predictions, bits", path)


def candidates_of(run: Run, partition: Partition) -> tuple[list[tuple[Part, int]], list[tuple[Part, int]]]:
    """(at most `config.suggest.candidates` (0: all) unlabelled training slices, evenly spaced; the labelled ones).

    Slices labelled since the training count as labelled, in a run that learned from all labels there were.
    """
    slices = [(part, z) for part in run.dataset.train for z in part.zs]
    trained = [(part, z) for part, z in slices if (part.name, z) in partition.labelled]
    data, new = run.config.data, []
    if data.labelled == "all" and not data.partition_file:
        new = [(part, z) for part, z in slices if z in part.labelled_zs and (part.name, z) not in partition.labelled]
    if new:
        start = shlex.join(["dualrel", "train", f"{run.workdir}_2", "--config", str(run.workdir)])
        print(
            f"Labelled since the training and left out: z = {', '.join(str(z) for _, z in new)}. To learn from "
            f"them: {start} --init {quoted(run.workdir)}"
        )
    known = {(part.name, z) for part, z in trained + new}
    slices = [(part, z) for part, z in slices if (part.name, z) not in known]
    if not slices:
        raise InputError(
            "Every training slice of this run is labelled already; suggest needs unlabelled ones: add volumes with "
            "--config.data.unlabelled in a new training."
        )
    return evenly_spaced(slices, run.config.suggest.candidates or len(slices)), trained + new


def _labelled_region(part: Part, z: int) -> Candidate:
    """The labelled part of a slice: all of it, or the box around its pixels that are not ignored."""
    first, end = known_box(part.native_label_at(z)) + np.array(part.corner)
    return Candidate(part, z, (first[0], end[0]), (first[1], end[1]), 0.0)


def _add_to_labelled(partition: Partition, picks: Sequence[Pick]) -> Partition:
    added = {(pick.region.part.name, pick.region.z) for pick in picks}
    unlabelled = tuple(entry for entry in partition.unlabelled if entry not in added)
    return Partition((*partition.labelled, *sorted(added)), unlabelled)
