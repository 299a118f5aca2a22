"""Which level of a pyramid is read, and where its voxels lie."""

import json
import shutil

import numpy as np
import pytest

from dualrel_jax.data.io.pyramid import LevelChoice
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError


def choose(level, pixel=10.0, **fields):
    return LevelChoice(level, (pixel, pixel), key="predict.level", **fields)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """Levels of 10 x 5 x 5, 10 x 10 x 10 and 20 x 20 x 20 nm."""
    path = tmp_path_factory.mktemp("pyramid") / "v.zarr"
    with open_writer(path, (8, 600, 520), np.uint8, (10.0, 5.0, 5.0), reduction="mean") as writer:
        for z in range(8):
            writer.write(z, np.full((600, 520), z + 1, np.uint8))
    return path


@pytest.mark.parametrize(("pixel", "index"), [(4.0, 0), (5.0, 0), (9.0, 0), (10.0, 1), (19.9, 2), (20.0, 2), (90.0, 2)])
def test_auto_is_the_coarsest_that_is_not_coarser_than_the_training(pyramid, pixel, index):
    volume = open_volume(pyramid, choice=choose("auto", pixel))
    assert volume.level.index == index
    assert volume.path == (f"{pyramid}:{index}" if index else str(pyramid)) and volume.container == str(pyramid)
    assert open_volume(volume.path).shape == volume.shape


def test_the_level_is_said_with_its_reason(pyramid, capsys):
    open_volume(pyramid, choice=choose("auto"))
    said = capsys.readouterr().out
    assert (
        "Level 1 of 0 to 2 is read: the coarsest whose pixels are not larger than the pixels of the training, 10 x"
        in said
    )
    assert "predict.level=0 reads the finest" in said
    open_volume(pyramid, choice=LevelChoice("auto"))
    assert "Level 0 of 0 to 2 is read: the pixel size of the training is unknown." in capsys.readouterr().out
    open_volume(pyramid)
    shown = capsys.readouterr().out
    assert "Level" not in shown and "zarr 3, 0, level 0 of 0 to 2, axes z y x" in shown


def test_a_level_lies_where_its_voxels_were(pyramid):
    volume = open_volume(pyramid, choice=choose("2"))
    assert volume.voxel_nm == (20.0, 20.0, 20.0) and volume.origin_nm == (5.0, 7.5, 7.5)
    assert volume.level.factors == (2, 4, 4) and volume.level.shift == (0.5, 1.5, 1.5)
    box = volume.level.from_full((slice(1, 4), slice(0, 600), slice(7, 9)))
    assert box == (slice(0, 2), slice(0, 150), slice(1, 3))


def test_a_stated_voxel_size_is_that_of_level_0(pyramid):
    volume = open_volume(pyramid, (5.0, 2.5, 2.5), choice=choose("auto"))
    assert volume.level.index == 2 and volume.voxel_nm == (10.0, 10.0, 10.0)


def test_slices_farther_apart_than_the_pixels_of_the_training_are_kept(pyramid, capsys):
    """Level 2 has half of the slices; with slices of 30 nm they would be 60 nm apart."""
    assert open_volume(pyramid, (30.0, 5.0, 5.0), choice=choose("auto", 20.0)).level.index == 1
    assert "larger than the pixels of the training, 20 x 20 nm, and that keeps the slices;" in capsys.readouterr().out
    assert open_volume(pyramid, (30.0, 5.0, 5.0), choice=choose("auto", 60.0)).level.index == 2
    assert open_volume(pyramid, (30.0, 5.0, 5.0), choice=choose("2")).level.index == 2


def altered(pyramid, path, change):
    """A copy of the pyramid with other `datasets`."""
    file = shutil.copytree(pyramid, path) / "zarr.json"
    content = json.loads(file.read_text())
    change(content["attributes"]["ome"]["multiscales"][0]["datasets"])
    file.write_text(json.dumps(content))
    return path


def test_levels_that_all_state_one_scale_have_that_of_their_shape(pyramid, tmp_path, capsys):
    def change(datasets):
        for level in datasets:
            level["coordinateTransformations"] = datasets[0]["coordinateTransformations"]

    volume = open_volume(altered(pyramid, tmp_path / "v.zarr", change), choice=choose("auto", 10.0))
    assert volume.level.index == 1 and volume.voxel_nm == (10.0, 10.0, 10.0)
    assert "(it states voxels of 10 x 5 x 5 nm, which contradicts its shape)" in capsys.readouterr().out


def test_levels_from_coarse_to_fine_are_refused(pyramid, tmp_path):
    path = altered(pyramid, tmp_path / "v.zarr", lambda datasets: datasets.reverse())
    with pytest.raises(
        InputError, match="level 1 has 8 x 300 x 260 voxels, and level 0 4 x 150 x 130; expected levels"
    ):
        open_volume(path)


def test_a_named_array_stays_what_it_is(pyramid):
    volume = open_volume(f"{pyramid}:1", choice=choose("auto", 90.0))
    assert volume.level is None and volume.shape[1] == 300 and volume.origin_nm == (0.0, 2.5, 2.5)


@pytest.mark.parametrize("level", ["3", "fine"])
def test_a_level_that_does_not_exist_is_refused(pyramid, level):
    with pytest.raises(InputError, match=f"predict.level={level}, but its levels are 0, 1, 2"):
        open_volume(pyramid, choice=choose(level))


def test_levels_keep_their_numbers_where_one_was_not_copied(pyramid, tmp_path):
    copied = shutil.copytree(
        pyramid, tmp_path / "v.zarr", ignore=lambda folder, _: {"1"} if folder == str(pyramid) else ()
    )
    assert not (copied / "1").exists()
    volume = open_volume(copied, choice=choose("auto", 20.0))
    assert volume.level.index == 2 and volume.path == f"{copied}:2" and volume.shape[1] == 150
    with pytest.raises(InputError, match="predict.level=1, but its levels are 0, 2"):
        open_volume(copied, choice=choose("1"))


def test_levels_of_n5_are_found_by_their_names(tmp_path):
    import tensorstore as ts

    for level, factor in enumerate((1, 2, 4)):
        metadata = {"dimensions": [64 // factor, 48 // factor, 8], "blockSize": [64, 64, 8], "dataType": "uint8"}
        metadata |= {"compression": {"type": "gzip"}, "pixelResolution": {"dimensions": [4, 4, 40], "unit": "nm"}}
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/v.n5/s{level}/"}}
        ts.open(spec | {"metadata": metadata}, create=True).result()
        attributes = tmp_path / f"v.n5/s{level}/attributes.json"
        content = json.loads(attributes.read_text()) | {"downsamplingFactors": [factor, factor, 1]}
        attributes.write_text(json.dumps(content))
    volume = open_volume(tmp_path / "v.n5", choice=choose("auto", 8.0))
    assert volume.path.endswith("v.n5:s1") and volume.voxel_nm == (40.0, 8.0, 8.0)
    assert volume.level.factors == (1, 2, 2) and volume.origin_nm == (0.0, 2.0, 2.0)


def test_a_box_counts_voxels_of_level_0(pyramid):
    whole, box = open_volume(f"{pyramid}:2"), open_volume(f"{pyramid}[2:6,100:200,:]", choice=choose("2"))
    np.testing.assert_array_equal(box[:], whole[1:3, 25:50])
    assert box.path == f"{pyramid}:2[1:3,25:50,0:130]" and box.container == f"{pyramid}[2:6,100:200,0:520]"
    assert box.origin_nm == (5.0 + 20, 7.5 + 500, 7.5)
    assert box.level.full_shape == (4, 100, 520) and box.level.shift == (0.5, 1.5, 1.5)
    np.testing.assert_array_equal(open_volume(box.path)[:], box[:])
    assert open_volume(box.path).origin_nm == box.origin_nm


@pytest.mark.parametrize("box", ["2:9,,", "4:2,,", ":,:"])
def test_a_box_outside_of_the_volume_is_refused(pyramid, box):
    with pytest.raises(InputError, match="expected (a range inside 0:8|slices, z0:z1, or a box).*8 x 600 x 520"):
        open_volume(f"{pyramid}[{box}]")
