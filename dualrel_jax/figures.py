"""The paper's figures from finished runs: `dualrel figures RUN [--compare RUN2,RUN3]`."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.config.rules import side_multiple
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.pipeline import augment
from dualrel_jax.errors import InputError
from dualrel_jax.inference.choice import Choice, choose_for_parts
from dualrel_jax.inference.run import Run, load_run
from dualrel_jax.inference.tiling import Tiles
from dualrel_jax.metrics.segmentation import Scores
from dualrel_jax.utils import lock
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import without_nan
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.visualization import border_analysis, paper_figures, prototype_analysis
from dualrel_jax.visualization.figure_text import describe_figures

MAX_SLICES = 16  # analysed, evenly spaced in z

Slice = tuple[Part, int]


def write_figures(workdir: str | Path, config: ConfigDict | None = None, compare: Sequence[str | Path] = ()) -> dict:
    """Figures (PNG and PDF), figures.json and figures.md in `workdir`/figures, on the run's test set; -> the numbers.

    Everything is measured at the training pixel size. The figures show the run in `workdir`; those that compare runs
    show the runs in `compare` beside it.

    Raises:
        InputError: a run cannot be loaded, is named twice or has another test set, or no slice has a border.
    """
    runs = load_runs([workdir, *compare], config)
    folder = next(iter(runs.values())).workdir / "figures"
    with lock.folder_writer(folder):
        return _write_figures(runs, folder)


def _write_figures(runs: dict[str, Run], folder: Path) -> dict:
    first = next(iter(runs.values()))
    slices = choose_slices(first)
    pixel, unit = (first.pixel_nm, "nm") if first.pixel_nm else ((1.0, 1.0), "pixels")
    numbers = {
        "data": sorted({part.image.path for part, _ in slices}),
        "part": sorted({part.name for part, _ in slices}),
        "z": [z for _, z in slices],
        "pixel": pixel,
        "unit": unit,
        "near_px": border_analysis.NEAR_PX,
        "runs": {},
    }
    choices = {name: choose_for_parts(run, run.test_parts) for name, run in runs.items()}
    records = {name: list(prototype_records(run, slices, pixel)) for name, run in runs.items()}
    for name, run in runs.items():
        numbers["runs"][name] = measure_run(run, choices[name], slices, pixel, records[name])
    numbers["with_and_without_diversity"] = diversity_pairs(runs)
    draw_slices(runs, choices, slices, numbers, folder)
    if records[next(iter(runs))]:
        draw_prototypes(runs, slices, numbers, records, folder)
    else:
        print(f"Figures of prototypes are left out: {first.config.method.name} in {first.workdir} has none.")
    write_text(folder / "figures.json", json.dumps(without_nan(numbers), indent=2, allow_nan=False) + "\n")
    text = describe_figures(numbers)
    write_text(folder / "figures.md", text)
    print(f"{text}\nFigures and numbers: {folder}")
    return numbers


def load_runs(workdirs: Sequence[str | Path], config: ConfigDict | None) -> dict[str, Run]:
    """Runs by the name of their method, with their folder where that repeats; all tested on the same slices.

    `config` belongs to the first run; the others take its data folder and its test volume.
    """
    first = load_run(workdirs[0], config)
    runs = [first]
    for workdir in workdirs[1:]:
        own = config_lib.load(Path(workdir) / "config.json")
        for field in ("dir", "test_image", "test_label", "test_label_kind", "test_ignore_value", "test_voxel_nm"):
            own.data[field] = first.config.data[field]
        runs.append(load_run(workdir, own))
        test_set, first_test_set = describe_test_set(runs[-1]), describe_test_set(first)
        if test_set != first_test_set:
            raise InputError(
                f"{workdir} is tested on {test_set}, but {workdirs[0]} on {first_test_set}; --compare takes runs on "
                "the same slices at the same pixel size."
            )
    methods = [run.config.method.name for run in runs]
    names = [
        method if methods.count(method) == 1 else f"{method} ({run.workdir.name})"
        for method, run in zip(methods, runs, strict=True)
    ]
    if len(set(names)) < len(names):
        raise InputError(f"--compare makes {', '.join(names)}; give runs of one method folders of different names.")
    return dict(zip(names, runs, strict=True))


def describe_test_set(run: Run) -> str:
    """Slices, volumes and pixels of the test set: runs can be compared where this text is the same."""
    return " and ".join(
        f"{len(part.labelled_zs)} slices (z = {part.labelled_zs[0]} to {part.labelled_zs[-1]}) of {part.image.path} at "
        f"{' x '.join(map(str, part.shape_at_training))} pixels"
        for part in run.test_parts
    )


def diversity_pairs(runs: dict[str, Run]) -> list[tuple[str, str]]:
    """Names (with, without the diversity loss) of each two runs whose trainings differ in nothing else."""

    def without_loss(run):
        config = ConfigDict(run.config.to_dict())
        config.method.diversity_weight = 0.0
        return config

    weighted = {name: run for name, run in runs.items() if run.config.method.get("diversity_weight") is not None}
    return [
        (name, other)
        for name, run in weighted.items()
        for other, bare in weighted.items()
        if run.config.method.diversity_weight > 0 == bare.config.method.diversity_weight
        and not config_lib.difference(without_loss(run), bare.config)
    ]


def choose_slices(run: Run) -> list[Slice]:
    """At most MAX_SLICES labelled slices of the test set, evenly spaced in z; InputError if none has a border."""
    slices = evenly_spaced([(part, z) for part in run.test_parts for z in part.labelled_zs], MAX_SLICES)
    if not any(border_analysis.has_border(part.label_at(z)) for part, z in slices):
        raise InputError(
            f"No labelled slice of {run.test_parts[0].name} has both mitochondria and background; name a volume that "
            "has with --config.data.test_image=... and --config.data.test_label=..."
        )
    return slices


def measure_run(
    run: Run, choice: Choice, slices: Sequence[Slice], pixel: tuple[float, float], records: Sequence[dict]
) -> dict[str, Any]:
    """The numbers of one run in figures.json; "jac" has a value per slice, NaN where it has no mitochondrion.

    records: `prototype_records` of the run.
    """
    scores, counts, jac = Scores(choice.threshold), [], []
    for part, z in slices:
        probability, label = choice.predictor(run.variables, part.image_at(z)), part.label_at(z)
        counts.append(border_analysis.confusion_counts(probability, label, pixel))
        score = scores.update(z, probability, label)["jac"]
        jac.append(score if (label == 1).any() else math.nan)
    numbers = {
        "workdir": str(run.workdir),
        "step": run.step,
        "weights": run.config.predict.weights,
        "confusion": border_analysis.confusion_summary(counts),
        "jac": jac,
    }
    if records:
        weight = {"diversity_weight": run.config.method.get("diversity_weight", 0.0)}
        numbers["prototypes"] = weight | prototype_analysis.prototype_summary(records)
    return numbers


def tiles(run: Run, part: Part, z: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(image, label) of the tiles of a slice, as in prediction: a tile is the image that has its own prototypes."""
    image, label = part.image_at(z), part.label_at(z)
    predict = run.config.predict
    grid = Tiles(image.shape, predict.tile, predict.overlap, side_multiple(run.config.model))
    yield from zip(grid.cut(image), grid.cut(label), strict=True)


def prototype_records(run: Run, slices: Sequence[Slice], pixel: tuple[float, float]) -> Iterator[dict]:
    """`prototype_record` of every tile with a border; none for a method without prototypes."""
    if run.activations is None:
        return
    for part, z in slices:
        for image, label in tiles(run, part, z):
            if border_analysis.has_border(label):
                yield prototype_analysis.prototype_record(_activations_of(run, image), label, pixel)


def _activations_of(run: Run, image: np.ndarray) -> dict[str, np.ndarray]:
    """The run's activations for one image, without the batch axis."""
    batch = jax.device_get(run.activations(run.variables, augment.to_float(image[None])))
    return {key: value[0] for key, value in batch.items()}


def draw_slices(
    runs: dict[str, Run], choices: dict[str, Choice], slices: Sequence[Slice], numbers: dict, folder: Path
) -> None:
    """Figures 1 and 5: confusion, and outcomes of the slices on which the first run has its lowest and highest JAC."""
    with_border = [i for i, (part, z) in enumerate(slices) if border_analysis.has_border(part.label_at(z))]
    jac = numbers["runs"][next(iter(runs))]["jac"]

    def predict(part, z):
        return {name: choices[name].predictor(run.variables, part.image_at(z)) for name, run in runs.items()}

    part, z = slices[with_border[len(with_border) // 2]]
    image, label = part.image_at(z), part.label_at(z)
    maps = {name: border_analysis.confusion(probability, label) for name, probability in predict(part, z).items()}
    paper_figures.confusion_figure(image, label, maps, numbers, folder / "confusion", title=f"z = {z}")

    ranked = sorted((i for i, value in enumerate(jac) if not math.isnan(value)), key=lambda i: jac[i])
    chosen = ranked if len(ranked) < 4 else [*ranked[:2], *ranked[-2:]]
    rows = []
    for i in chosen:
        part, z = slices[i]
        masks = {
            f"{name}, JAC {numbers['runs'][name]['jac'][i]:.2f}": probability > choices[name].threshold
            for name, probability in predict(part, z).items()
        }
        rank = "low" if i in ranked[: len(ranked) // 2] else "high"
        rows.append((part.image_at(z), part.label_at(z), masks, f"EM, z = {z} ({rank} JAC), with true outlines"))
    paper_figures.mask_figure(rows, folder / "masks", numbers["pixel"] if numbers["unit"] == "nm" else None)


def draw_prototypes(
    runs: dict[str, Run], slices: Sequence[Slice], numbers: dict, records: dict[str, list[dict]], folder: Path
) -> None:
    """Figures 7 and 8 and the references, on the tile of the middle slice that has the most mitochondrion pixels."""
    name, run = next(iter(runs.items()))
    with_border = [(part, z) for part, z in slices if border_analysis.has_border(part.label_at(z))]
    image, label = max(tiles(run, *with_border[len(with_border) // 2]), key=lambda tile: (tile[1] == 1).sum())
    activations = _activations_of(run, image)
    summaries = {name: entry["prototypes"] for name, entry in numbers["runs"].items() if "prototypes" in entry}
    paper_figures.prototype_figures(image, activations, folder)
    paper_figures.reference_figure(image, label, activations, folder / "references")
    paper_figures.reliability_figure(records[name], summaries[name], folder / "reliability_at_borders")
    paper_figures.cosine_figure(summaries, folder / "diversity")
