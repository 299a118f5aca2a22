"""What a person needs to know before using a model, as the README.md of a model on Hugging Face."""

from pathlib import Path

import jax
import numpy as np
import yaml

from dualrel_jax.constants import METHOD_TITLES
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.inference.run import Run
from dualrel_jax.utils.jsonl import read_json
from dualrel_jax.utils.ranges import format_runs
from dualrel_jax.utils.tables import markdown_table

TAGS = ("mitochondria", "electron-microscopy", "bioimage-analysis", "unet", "jax", "flax")

_CARD = """---
{metadata}---

# Mitochondria segmentation: {method}, trained on {data}

U-Net of stem {stem}, width {width} and depth {depth}, {size:,} parameters ({weights} weights), step {step:,} of
{steps:,}.
Trained with dualrel_jax (revision {revision}, JAX {jax}).{authors}

## Use

{use}

## Data

{slices}

## Validation

{scores}

## Licence

{licence}
"""


def model_card(run: Run, use: str) -> str:
    """Use, data, scores and licence as Markdown, after the metadata that Hugging Face reads.

    Args:
        run: of the model.
        use: how the files beside the card are used.
    """
    config = run.config
    fields = {"git_revision": (str, type(None)), "versions": dict}
    machine = read_json(run.workdir / "run.json", fields, "copy it from where the run was trained")
    return _CARD.format(
        use=use,
        method=METHOD_TITLES.get(config.method.name, config.method.name),
        data=config.data.name,
        width=config.model.width,
        stem=config.model.stem,
        depth=config.model.depth,
        size=sum(np.size(leaf) for leaf in jax.tree.leaves(run.variables)),
        weights=config.predict.weights,
        step=run.step,
        steps=config.train.steps,
        revision=machine["git_revision"],
        jax=machine["versions"].get("jax", "of an unknown version"),
        metadata=_metadata(run),
        authors=f"\nAuthors: {config.export.authors}." if config.export.authors else "",
        licence=_licence(config.export.license),
        slices=_slices(Partition.load(run.workdir / "partition.json")),
        scores=_scores(run.workdir / "metrics.json"),
    )


def pixel_size(run: Run) -> str:
    """Of the training, for people."""
    return f"{run.pixel_nm[0]:g} x {run.pixel_nm[1]:g} nm (y x)" if run.pixel_nm else "not known"


def _metadata(run: Run) -> str:
    """YAML: what the hub shows beside the card and searches for."""
    license_name = run.config.export.license
    fields = {
        "license": license_name.lower() or "unknown",
        "library_name": "dualrel-jax",
        "pipeline_tag": "image-segmentation",
        "tags": [*TAGS, run.config.method.name],
    }
    return yaml.safe_dump(fields, sort_keys=False)


def _licence(name: str) -> str:
    if name:
        return f"The licence of the weights is {name}, that of the software Apache-2.0."
    return (
        "The licence of the software is Apache-2.0. The weights were learned from the data above, whose licence may\n"
        "restrict how they are shared. State theirs, by `dualrel export RUN --license NAME`, before you publish them."
    )


def _slices(partition: Partition) -> str:
    """One line per volume: the slices whose labels were used, and the number of slices without labels."""
    lines = []
    for part in dict.fromkeys(name for name, _ in partition.labelled + partition.unlabelled):
        labelled, unlabelled = (
            [z for name, z in slices if name == part] for slices in (partition.labelled, partition.unlabelled)
        )
        lines.append(
            f"- {part}: labels of {len(labelled)} slices (z = {format_runs(labelled) or 'none'}), "
            f"{len(unlabelled)} slices without labels"
        )
    return "\n".join(lines)


def _scores(path: Path) -> str:
    """A table of the scores of the run, or a sentence that it has none."""
    if not path.exists():
        return "It was not scored."
    keys = ("jac_pooled", "dsc_pooled", "precision_pooled", "recall_pooled", "jac_per_slice_mean", "dsc_per_slice_mean")
    fields = {"slices": int, "part": list, **dict.fromkeys(keys, (float, type(None)))}
    scores = read_json(path, fields, "write it again by dualrel evaluate")
    rows = [[key, "undefined" if scores[key] is None else f"{scores[key]:.3f}"] for key in keys]
    heading = f"On {scores['slices']} labelled slices of {', '.join(scores['part'])}:"
    return f"{heading}\n\n{markdown_table(['score', 'value'], rows)}"
