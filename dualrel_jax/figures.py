"""The paper's figures from finished runs: `dualrel --workdir RUN --mode=figures [--compare RUN2,RUN3]`."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.pipeline import augment
from dualrel_jax.errors import InputError
from dualrel_jax.inference.choice import Choice, choose_for_parts
from dualrel_jax.inference.run import Run, load_run
from dualrel_jax.inference.tiling import Tiles
from dualrel_jax.metrics.segmentation import Scores
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import without_nan
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.visualization import paper_figures, prototype_analysis

MAX_SLICES = 16  # analysed, spread evenly over z

Slice = tuple[Part, int]


def write_figures(workdir: str | Path, config: ConfigDict | None = None, compare: Sequence[str | Path] = ()) -> dict:
    """Figures (PNG and PDF), figures.json and figures.md in `workdir`/figures, on the run's test set; -> the numbers.

    Everything is measured at the training pixel size. The first run is drawn; the others are drawn beside it where a
    figure compares runs.

    Raises:
        InputError: a run cannot be loaded, is named twice or is tested on other slices, or no slice has a border.
    """
    runs = load_runs([workdir, *compare], config)
    first = next(iter(runs.values()))
    slices = choose_slices(first)
    pixel, unit = (first.pixel_nm, "nm") if first.pixel_nm else ((1.0, 1.0), "pixels")
    numbers = {
        "data": sorted({part.image.path for part, _ in slices}),
        "part": sorted({part.name for part, _ in slices}),
        "z": [z for _, z in slices],
        "pixel": pixel,
        "unit": unit,
        "near_px": prototype_analysis.NEAR_PX,
        "runs": {},
    }
    records, choices = {}, {name: choose_for_parts(run, run.test_parts()) for name, run in runs.items()}
    for name, run in runs.items():
        about = {"workdir": str(run.workdir), "step": run.step, "weights": run.config.predict.weights}
        numbers["runs"][name] = {**about, **measure(run, choices[name], slices, pixel)}
        records[name] = list(prototype_records(run, slices, pixel))
        if records[name]:
            about = {"diversity_weight": run.config.method.get("diversity_weight", 0.0)}
            numbers["runs"][name]["prototypes"] = {**about, **prototype_analysis.prototype_summary(records[name])}

    numbers["with_and_without_diversity"] = diversity_pairs(runs)
    folder = first.workdir / "figures"
    draw_slices(runs, choices, slices, numbers, folder)
    if records[next(iter(runs))]:
        draw_prototypes(runs, slices, numbers, records, folder)
    else:
        print(f"Figures of prototypes are left out: {first.config.method.name} in {first.workdir} has none.")
    write_text(folder / "figures.json", json.dumps(without_nan(numbers), indent=2, allow_nan=False) + "\n")
    text = prototype_analysis.in_words(numbers)
    write_text(folder / "figures.md", text)
    print(f"{text}\nFigures and numbers: {folder}")
    return numbers


def load_runs(workdirs: Sequence[str | Path], config: ConfigDict | None) -> dict[str, Run]:
    """Runs by the name of their method, and their folder where that repeats; all tested on the same slices.

    `config` belongs to the first; where it moved the data or named another test volume, the others follow.
    """
    first = load_run(workdirs[0], config)
    found = [first]
    for workdir in workdirs[1:]:
        own = config_lib.load(Path(workdir) / "config.json")
        for field in ("dir", "test_image", "test_label", "test_voxel_nm"):
            own.data[field] = first.config.data[field]
        found.append(load_run(workdir, own))
        here, there = tested_on(found[-1]), tested_on(first)
        if here != there:
            raise InputError(
                f"{workdir} is tested on {here}, but {workdirs[0]} on {there}; --compare takes runs on the same "
                "slices at the same pixel size."
            )
    methods = [run.config.method.name for run in found]
    names = [
        method if methods.count(method) == 1 else f"{method} ({run.workdir.name})"
        for method, run in zip(methods, found, strict=True)
    ]
    if len(set(names)) < len(names):
        raise InputError(f"--compare makes {', '.join(names)}; give runs of one method folders of different names.")
    return dict(zip(names, found, strict=True))


def tested_on(run: Run) -> str:
    """What decides whether two runs can be compared, in words."""
    return " and ".join(
        f"{len(part.labelled_zs)} slices (z = {part.labelled_zs[0]} to {part.labelled_zs[-1]}) of {part.image.path} at "
        f"{' x '.join(map(str, part.shape_at_training))} pixels"
        for part in run.test_parts()
    )


def diversity_pairs(runs: dict[str, Run]) -> list[tuple[str, str]]:
    """(with, without) the diversity loss, of runs whose trainings differ in nothing else."""

    def without_loss(run):
        config = ConfigDict(run.config.to_dict())
        config.method.diversity_weight = 0.0
        return config

    able = {name: run for name, run in runs.items() if run.config.method.get("diversity_weight") is not None}
    return [
        (name, other)
        for name, run in able.items()
        for other, bare in able.items()
        if run.config.method.diversity_weight > 0 == bare.config.method.diversity_weight
        and not config_lib.difference(without_loss(run), bare.config)
    ]


def choose_slices(run: Run) -> list[Slice]:
    """At most MAX_SLICES labelled slices of the test set, spread over z; InputError if none shows a border."""
    slices = evenly_spaced([(part, z) for part in run.test_parts() for z in part.labelled_zs], MAX_SLICES)
    if not any(prototype_analysis.has_border(part.label_at(z)) for part, z in slices):
        raise InputError(
            f"No labelled slice of {run.test_parts()[0].name} has both mitochondria and background; name a volume that "
            "has with --config.data.test_image=... and --config.data.test_label=..."
        )
    return slices


def measure(run: Run, choice: Choice, slices: Sequence[Slice], pixel: tuple[float, float]) -> dict:
    """{"confusion": numbers, "jac": one a slice, NaN where it has no mitochondrion}."""
    scores, counts = Scores(choice.threshold), []
    for part, z in slices:
        probability, label = choice.predictor(run.variables, part.image_at(z)), part.label_at(z)
        counts.append(prototype_analysis.confusion_counts(probability, label, pixel))
        record = scores.update(z, probability, label)
        if not (label == 1).any():
            record["jac"] = math.nan
    return {
        "confusion": prototype_analysis.confusion_summary(counts),
        "jac": [record["jac"] for record in scores.records],
    }


def tiles(run: Run, part: Part, z: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(image, label) of the tiles of a slice that prediction works on: these are the images prototypes belong to."""
    image, label = part.image_at(z), part.label_at(z)
    predict = run.config.predict
    grid = Tiles(image.shape, predict.tile, predict.overlap, 2 ** (run.config.model.depth - 1))
    yield from zip(grid.cut(image), grid.cut(label), strict=True)


def prototype_records(run: Run, slices: Sequence[Slice], pixel: tuple[float, float]) -> Iterator[dict]:
    """Of every tile with a border; none for a method without prototypes."""
    if not hasattr(run.method, "activations"):
        return
    activations = jax.jit(run.method.activations)
    for part, z in slices:
        for image, label in tiles(run, part, z):
            if prototype_analysis.has_border(label):
                yield prototype_analysis.prototype_record(_of_one(activations, run, image), label, pixel)


def _of_one(activations, run: Run, image: np.ndarray) -> dict[str, np.ndarray]:
    found = jax.device_get(activations(run.variables, augment.to_float(image[None])))
    return {key: value[0] for key, value in found.items()}


def draw_slices(
    runs: dict[str, Run], choices: dict[str, Choice], slices: Sequence[Slice], numbers: dict, folder: Path
) -> None:
    """Figures 1 and 5: confusion, and right and wrong pixels of the worst and the best slices of the first run."""
    with_border = [i for i, (part, z) in enumerate(slices) if prototype_analysis.has_border(part.label_at(z))]
    jac = numbers["runs"][next(iter(runs))]["jac"]

    def predict(part, z):
        return {name: choices[name].predictor(run.variables, part.image_at(z)) for name, run in runs.items()}

    part, z = slices[with_border[len(with_border) // 2]]
    maps = {
        name: prototype_analysis.confusion(probability, part.label_at(z))
        for name, probability in predict(part, z).items()
    }
    paper_figures.confusion(part.image_at(z), part.label_at(z), maps, numbers, f"z = {z}", folder / "confusion")

    ranked = sorted((i for i, value in enumerate(jac) if not math.isnan(value)), key=lambda i: jac[i])
    chosen = ranked if len(ranked) < 4 else [*ranked[:2], *ranked[-2:]]
    rows = []
    for i in chosen:
        part, z = slices[i]
        masks = {
            f"{name}, JAC {numbers['runs'][name]['jac'][i]:.2f}": probability > choices[name].threshold
            for name, probability in predict(part, z).items()
        }
        rank = "worst" if i in ranked[: len(ranked) // 2] else "best"
        rows.append((part.image_at(z), part.label_at(z), masks, f"z = {z} ({rank} slices)"))
    paper_figures.masks(rows, folder / "masks", numbers["pixel"] if numbers["unit"] == "nm" else None)


def draw_prototypes(
    runs: dict[str, Run], slices: Sequence[Slice], numbers: dict, records: dict[str, list[dict]], folder: Path
) -> None:
    """Figures 7 and 8 and references, on the tile of the middle slice that holds most of mitochondria."""
    name, run = next(iter(runs.items()))
    with_border = [(part, z) for part, z in slices if prototype_analysis.has_border(part.label_at(z))]
    image, label = max(tiles(run, *with_border[len(with_border) // 2]), key=lambda tile: (tile[1] == 1).sum())
    found = _of_one(jax.jit(run.method.activations), run, image)
    paper_figures.prototypes(image, found, folder)
    paper_figures.references(image, label, found, folder / "references")
    paper_figures.reliability(records[name], numbers["runs"][name]["prototypes"], folder / "reliability_at_borders")
    paper_figures.cosines(
        {name: one["prototypes"] for name, one in numbers["runs"].items() if "prototypes" in one}, folder / "diversity"
    )
