"""The manifest of the plugin against the package; napari itself is not needed."""

from pathlib import Path

import yaml

from dualrel_jax import napari_plugin
from dualrel_jax.data.io.readers import chunked, image_folder
from dualrel_jax.data.io.readers.formats import FORMATS


def test_napari_offers_every_format_that_may_state_a_voxel_size():
    manifest = yaml.safe_load(Path(napari_plugin.__file__).with_name("napari.yaml").read_text())
    [reader] = manifest["contributions"]["readers"]
    endings = {ending for kind in FORMATS for ending in kind.suffixes} | {*chunked.SUFFIXES}
    assert set(reader["filename_patterns"]) == {f"*{ending}" for ending in endings - {*image_folder.FLAT}}
