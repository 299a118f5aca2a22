"""The card of a model: its metadata for Hugging Face, and what a person reads."""

import yaml

from dualrel_jax import starter
from dualrel_jax.inference import run
from dualrel_jax.packaging.model_card import model_card


def metadata(card):
    start, front, _ = card.split("---\n", 2)
    assert not start
    return yaml.safe_load(front)


def test_the_card_names_data_pixels_and_scores(trained):
    workdir, _ = trained
    card = model_card(run.load_run(workdir), "How to use it.")
    assert "own/train: labels of 3 slices (z = 1, 4, 7), 6 slices without labels" in card
    assert "## Use\n\nHow to use it." in card
    assert "It was not scored." in card
    keys = ("jac_pooled", "dsc_pooled", "precision_pooled", "recall_pooled", "jac_per_slice_mean", "dsc_per_slice_mean")
    scores = ", ".join(f'"{key}": 0.5' for key in keys)
    scores = scores.replace('"precision_pooled": 0.5', '"precision_pooled": null')
    (workdir / "metrics.json").write_text(f'{{{scores}, "slices": 12, "part": ["own/test"]}}')
    card = model_card(run.load_run(workdir), "How to use it.")
    assert "On 12 labelled slices of own/test" in card and "| jac_pooled | 0.500 |" in card
    assert "| precision_pooled | undefined |" in card


def test_metadata_and_licence(trained):
    workdir, config = trained
    loaded = run.load_run(workdir)
    card = model_card(loaded, "How to use it.")
    assert metadata(card)["license"] == "unknown" and "State theirs, by `dualrel export RUN --license NAME`" in card
    loaded.config.export.update({"license": "CC-BY-4.0", "authors": "A. Name, B. Name"})
    card = model_card(loaded, "How to use it.")
    assert metadata(card)["license"] == "cc-by-4.0" and "is CC-BY-4.0" in card and "Authors: A. Name, B. Name." in card
    assert metadata(card)["pipeline_tag"] == "image-segmentation" and "dualrel" in metadata(card)["tags"]


def test_the_starter_has_the_same_layout():
    folder = starter.folder("starter")
    fields = metadata((folder / "README.md").read_text())
    assert (fields["license"], fields["pipeline_tag"]) == ("apache-2.0", "image-segmentation")
    assert set(starter.FILES) == {"README.md", "weights.safetensors", "config.json", "run.json", "partition.json"}
