"""What to label next: slices, or boxes of them, about which a trained model is of several minds."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.pipeline import augment
from dualrel_jax.data.pipeline.crops import known_box
from dualrel_jax.errors import InputError
from dualrel_jax.inference.run import load_run
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.inference.threshold import UNKNOWN_NM
from dualrel_jax.methods.base import Method
from dualrel_jax.utils import sharding
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.visualization import overlays

STRONG_VIEWS = 2  # beside the slice as it is


class Region(NamedTuple):
    """A slice or a box of one, in pixels of its volume."""

    part: Part
    z: int
    y: tuple[int, int]
    x: tuple[int, int]
    uncertainty: float  # mean disagreement of its pixels, bits

    @property
    def box_nm(self) -> np.ndarray:
        """Lower and upper corner (z, y, x): 2 3; in voxels where no voxel size is known, z perhaps at a guess."""
        corners = np.array([[self.z, self.y[0], self.x[0]], [self.z, self.y[1], self.x[1]]])
        return corners * np.nan_to_num(self.part.image.voxel_nm or (1, 1, 1), nan=UNKNOWN_NM)

    @property
    def centre_nm(self) -> np.ndarray:
        """(z, y, x)."""
        return self.box_nm.mean(axis=0)


class Pick(NamedTuple):
    region: Region
    novelty: float  # 0: beside a labelled or chosen region; 1: as far from all of them as even spacing would put it


class Disagreement:
    """Stands in for a method at prediction: probability becomes disagreement, b y x in bits.

    Opinions are the method's predictions (head and prototypes, or both networks) for the slice as it is and under the
    strong augmentation of training. Their disagreement is the entropy of their mean less the mean of their entropies
    (Houlsby et al. 2011): a border that all find equally unclear does not count, one they draw differently does.
    """

    def __init__(self, method: Method, settings: ConfigDict):
        self._method, self._settings = method, settings

    def predict(self, variables, image: jax.Array) -> dict[str, jax.Array]:
        grey = image[..., 0] * 0.25 + 0.5

        def strong(i):
            keys = jax.random.split(jax.random.key(i), len(grey))
            views = jax.vmap(lambda k, x: augment.photometric(k, x, self._settings, 1.0))(keys, grey)
            return augment.normalise(views)[..., None]

        views = [image, *map(strong, range(STRONG_VIEWS))]
        opinions = [
            probability
            for view in views
            for name, probability in self._method.predict(variables, view).items()
            if name not in ("default", "mean")
        ]
        return {"default": disagreement(jnp.stack(opinions))}


def disagreement(probability: jax.Array) -> jax.Array:
    """Mutual information of class and opinion, bits: opinions o ... -> ... in [0, 1]."""
    return entropy(probability.mean(axis=0)) - entropy(probability).mean(axis=0)


def entropy(p: jax.Array) -> jax.Array:
    """Of a probability, bits."""
    p = jnp.clip(p, 1e-6, 1 - 1e-6)
    return -(p * jnp.log2(p) + (1 - p) * jnp.log2(1 - p))


def suggest(workdir: str | Path, config: ConfigDict | None = None) -> dict[str, Path]:
    """Chooses `config.suggest.count` regions of the training volumes to label next for the run in `workdir`.

    Writes suggestions.csv (the chosen ones by rank, then all that were looked at), suggestions.png (a contact sheet),
    and, if all of them have labels already, partition.json, with which a training takes them in
    (`--config.data.partition_file`). -> name -> path.
    """
    run = load_run(workdir, config)
    settings = run.config.suggest
    _check(settings)
    partition = Partition.load(Path(workdir) / "partition.json")
    mesh = sharding.create_mesh(run.config.train.devices)
    judge = Predictor(Disagreement(run.method, run.config.augment), _by_default(run.config), mesh)
    candidates = _candidates(run.dataset.train, partition, settings.candidates)
    regions = []
    found = judge.each(run.variables, (part.image_at(z) for part, z in candidates))
    bar = tqdm(found, "suggest", len(candidates), unit="slice", mininterval=2)
    for (part, z), unsure in zip(candidates, bar, strict=True):
        regions.extend(regions_of(part, z, unsure, settings.box_px))
    labelled = [_known(part, z) for part in run.dataset.train for z in part.zs if (part.name, z) in partition.labelled]
    picks = choose(regions, labelled, settings.count)
    slices = {(pick.region.part.name, pick.region.z): pick.region.part.image_at(pick.region.z) for pick in picks}
    shown = dict(zip(slices, judge.each(run.variables, slices.values()), strict=True))

    folder = Path(workdir) / "suggestions"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"table": folder / "suggestions.csv", "picture": folder / "suggestions.png"}
    write_table(picks, regions, paths["table"])
    contact_sheet(picks, shown, paths["picture"])
    if all(pick.region.z in pick.region.part.labelled_zs for pick in picks) and not settings.box_px:
        paths["partition"] = folder / "partition.json"
        added = {(pick.region.part.name, pick.region.z) for pick in picks}
        unlabelled = tuple(entry for entry in partition.unlabelled if entry not in added)
        Partition((*partition.labelled, *sorted(added)), unlabelled).save(paths["partition"])
    print("Label next, the most useful first:")
    for pick in picks:
        print(f"  {place(pick.region)}")
    for name, path in paths.items():
        print(f"  {name}: {path}")
    return paths


def regions_of(part: Part, z: int, unsure: np.ndarray, box_px: int) -> Iterator[Region]:
    """The slice as one region, or cut into boxes of `box_px` volume pixels (smaller at the far edges)."""
    native = part.image.shape[1:]
    cuts = [[(a, min(a + (box_px or size), size)) for a in range(0, size, box_px or size)] for size in native]
    scale = [size / whole for size, whole in zip(unsure.shape, native, strict=True)]
    for y in cuts[0]:
        for x in cuts[1]:
            inside = tuple(
                slice(int(a * s), max(int(b * s), int(a * s) + 1)) for (a, b), s in zip((y, x), scale, strict=True)
            )
            yield Region(part, z, y, x, float(unsure[inside].mean()))


def choose(regions: Sequence[Region], labelled: Sequence[Region], count: int) -> list[Pick]:
    """The `count` regions of largest uncertainty x novelty, one after the other, each seen as labelled by the next.

    Novelty grows with the distance of a region's centre to the nearest labelled or chosen region of the same volume, up
    to the distance that these would have if they were evenly spread: slices side by side teach the same.
    """
    extent = np.ptp([region.centre_nm for region in (*regions, *labelled)], axis=0)
    reach = max(np.linalg.norm(extent) / (len(labelled) + count), 1e-9)
    known, picks = list(labelled), []
    novelty = np.array([min([_novelty(region, other, reach) for other in known], default=1.0) for region in regions])
    uncertainty = np.array([region.uncertainty for region in regions])
    for _ in range(min(count, len(regions))):
        best = int(np.argmax(uncertainty * novelty))
        picks.append(Pick(regions[best], float(novelty[best])))
        novelty = np.minimum(novelty, [_novelty(region, regions[best], reach) for region in regions])
    return picks


def _novelty(region: Region, other: Region, reach: float) -> float:
    if region.part.image.path != other.part.image.path:
        return 1.0
    low, high = other.box_nm
    return min(1.0, float(np.linalg.norm(region.centre_nm - region.centre_nm.clip(low, high))) / reach)


def write_table(picks: Sequence[Pick], regions: Sequence[Region], path: Path) -> None:
    """A row a region: the chosen by rank, then the others by uncertainty, in voxels of the volume."""
    chosen = {id(pick.region) for pick in picks}
    others = sorted((region for region in regions if id(region) not in chosen), key=lambda r: -r.uncertainty)
    rows = [(rank, pick.region, f"{pick.novelty:.3f}") for rank, pick in enumerate(picks, 1)]
    rows += [("", region, "") for region in others]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        box = ["y_start", "y_stop", "x_start", "x_stop"]
        writer.writerow(["rank", "volume", "z", *box, "uncertainty_bits", "novelty"])
        for rank, region, novelty in rows:
            where = [region.part.image.path, region.z, *region.y, *region.x]
            writer.writerow([rank, *where, f"{region.uncertainty:.5f}", novelty])


def contact_sheet(picks: Sequence[Pick], unsure: dict, path: Path) -> Path:
    """The chosen regions' slices, brighter where the opinions differ, one scale for all; boxes are framed."""
    from matplotlib.patches import Rectangle

    columns = min(3, len(picks))
    sizes = [overlays.fit(unsure[pick.region.part.name, pick.region.z].shape, (430, 360)) for pick in picks]
    width, height = (max(size) + overlays.GAP for size in zip(*sizes, strict=True))
    height += overlays.CAPTION
    rows = -(-len(picks) // columns)
    figure = overlays.new_figure(columns * width + overlays.GAP, rows * height + overlays.GAP)
    top = max(np.percentile(unsure[pick.region.part.name, pick.region.z], 99.8) for pick in picks)
    for i, (pick, size) in enumerate(zip(picks, sizes, strict=True)):
        region, shape = pick.region, pick.region.part.image.shape[1:]
        corner = overlays.GAP + i % columns * width, overlays.CAPTION + i // columns * height
        axes = overlays.panel(figure, corner, size, f"{i + 1}.  {place(region)}")
        image = region.part.image_at(region.z)
        overlays.grey(axes, image)
        extent = axes.get_images()[0].get_extent()
        axes.imshow(overlays.heat(unsure[region.part.name, region.z], (0, top)), extent=extent, aspect="auto")
        if (region.y, region.x) != ((0, shape[0]), (0, shape[1])):
            scale = image.shape[0] / shape[0], image.shape[1] / shape[1]
            corner = region.x[0] * scale[1] - 0.5, region.y[0] * scale[0] - 0.5
            size = np.ptp(region.x) * scale[1], np.ptp(region.y) * scale[0]
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=overlays.TRUE, linewidth=2))
    return overlays.save(figure, path)


def place(region: Region) -> str:
    shape = region.part.image.shape[1:]
    box = f", y {region.y[0]}-{region.y[1] - 1}, x {region.x[0]}-{region.x[1] - 1}"
    whole = (region.y, region.x) == ((0, shape[0]), (0, shape[1]))
    return f"slice {region.z} of {Path(region.part.image.path).name}" + ("" if whole else box)


def _candidates(parts: Sequence[Part], partition: Partition, most: int) -> list[tuple[Part, int]]:
    """Unlabelled training slices, at most so many (0: all), evenly spread."""
    slices = [(part, z) for part in parts for z in part.zs if (part.name, z) not in partition.labelled]
    if not slices:
        raise InputError(
            "Every training slice of this run is labelled already; suggest needs unlabelled ones: add volumes with "
            "--config.data.unlabelled in a new training."
        )
    return evenly_spaced(slices, most or len(slices))


def _known(part: Part, z: int) -> Region:
    """What of a labelled slice is labelled: all of it, or the box around what is not to be ignored."""
    first, end = known_box(part.native_label_at(z))
    return Region(part, z, (first[0], end[0]), (first[1], end[1]), 0.0)


def _by_default(config: ConfigDict) -> ConfigDict:
    config = config.copy_and_resolve_references().unlock()
    config.predict.prediction_head = "default"
    return config


def _check(settings: ConfigDict) -> None:
    for key, least in (("count", 1), ("candidates", 0), ("box_px", 0)):
        if settings[key] < least:
            raise InputError(f"config.suggest.{key} is {settings[key]}; expected {least} or more.")
