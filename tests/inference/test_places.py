"""Places to classify by clicks, drawn from a prediction."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

import dualrel_jax
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.points import read_points
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.inference.places import draw_places, explain_other_places, last_prediction, note_last_prediction
from dualrel_jax.suggest import suggest


def test_places_are_as_many_of_each_level_of_probability_and_lie_in_few_slices():
    rng = np.random.default_rng(0)
    volume = (rng.random((30, 60, 60)) ** 8 * 255).astype(np.uint8)  # most of it is near 0
    places = draw_places(Volume.from_array(volume), 32, seed=0)
    values = volume[tuple(places.T)] / 255
    assert np.histogram(values, (0, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.01))[0].tolist() == [4] * 8
    assert len(set(places[:, 0])) <= 6
    with pytest.raises(InputError, match="no pixel whose probability is above 0.05"):
        draw_places(Volume.from_array(np.zeros_like(volume)), 5, seed=0)


def test_suggest_writes_a_table_and_a_picture_of_places_in_the_volume(volume_files, tmp_path, capsys):
    image = tifffile.imread(volume_files["test_image"])
    folder = tmp_path / "prediction"
    folder.mkdir()
    tifffile.imwrite(folder / "mask_probability.tif", 255 - image[2:, 8:])
    record = {"volume": str(volume_files["test_image"]), "config.predict.region": "2:,8:,", "model": "a1"}
    (folder / "mask.json").write_text(json.dumps(record))
    config = dualrel_jax.get_config("dualrel:own")
    config.suggest.points = 10
    paths = suggest(tmp_path, config)
    printed = capsys.readouterr().out
    assert f"--points {paths['table']} -o {folder / 'mask.tif'} --region 2:,8:," in printed
    assert "--set" not in printed  # made by the settings of the run
    assert explain_other_places(paths["table"], record) == ""
    (folder / "mask.json").write_text(json.dumps(record | {"config.predict.planes": "xyz"}))
    suggest(tmp_path, config)
    assert "--set predict.planes=xyz" in capsys.readouterr().out  # as the prediction that the places are of
    other = explain_other_places(paths["table"], record | {"config.predict.planes": "xy"})
    assert "drawn from another prediction (predict.planes=xyz)" in other
    (folder / "mask.json").write_text(json.dumps(record | {"config.predict.edge_nm": -8.0}))
    suggest(tmp_path, config)
    assert " --edge-nm -8 --region" in capsys.readouterr().out
    (folder / "mask.json").write_text(json.dumps(record))
    suggest(tmp_path, config)
    whole = explain_other_places(paths["table"], record | {"config.predict.region": "", "model": "b2"})
    assert "points.csv was drawn from another prediction (region 2:,8:,, model a1)" in whole
    assert explain_other_places(tmp_path / "clicks.csv", record) == ""  # of a person's own places
    assert Path(paths["picture"]).stat().st_size > 0
    table = Path(paths["table"])
    lines = table.read_text().splitlines()
    assert len(lines) == 11
    table.write_text("\n".join([lines[0], *(line.replace(",,", f",{i % 2},") for i, line in enumerate(lines[1:]))]))
    points = read_points(table, image.shape)
    assert points.drawn == "probability" and (points.zyx >= (2, 8, 0)).all()


def test_a_training_learns_from_points_alone(volume_files, tmp_path):
    (tmp_path / "points.csv").write_text("z,y,x,class\n3,20,20,1\n3,20,40,0\n7,5,5,0\n")
    data = dualrel_jax.get_config("dualrel:own").data
    data.image, data.points, data.pixel_nm = str(volume_files["train_image"]), str(tmp_path / "points.csv"), 0.0
    (part,) = load_dataset(data).train
    assert part.labelled_zs == (3, 7)
    label = part.native_label_at(3)
    assert label[20, 20] == 1 and label[20, 40] == 0 and label[20, 30] == 255
    data.label = str(volume_files["train_label"])
    with pytest.raises(InputError, match="points are its labels"):
        load_dataset(data)


def test_the_last_prediction_is_known_wherever_it_was_written(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    assert last_prediction(run) == run / "prediction" / "mask_probability.tif"
    note_last_prediction(run, tmp_path / "elsewhere_probability.zarr")
    assert last_prediction(run) == tmp_path / "elsewhere_probability.zarr"
    note_last_prediction(run, run / "prediction" / "mask_probability.zarr")
    run = run.rename(tmp_path / "moved")
    assert last_prediction(run) == run / "prediction" / "mask_probability.zarr"
    note_last_prediction(run, tmp_path / "elsewhere_probability.zarr")
    run = run.rename(tmp_path / "again")
    assert last_prediction(run) == tmp_path / "elsewhere_probability.zarr"  # there is none inside
    (run / "prediction" / "mask_probability.tif").touch()
    assert last_prediction(run) == run / "prediction" / "mask_probability.tif"
    assert "was copied or moved since its last prediction" in capsys.readouterr().out
    note_last_prediction(run, tmp_path / "elsewhere_probability.zarr")
    assert last_prediction(run) == tmp_path / "elsewhere_probability.zarr"
    note_last_prediction(run, None)
    with pytest.raises(InputError, match="left out its probability"):
        last_prediction(run)


def test_an_input_without_points_is_refused(tmp_path):
    config = dualrel_jax.get_config("dualrel:own")
    config.suggest.input = "other.tif"
    with pytest.raises(InputError, match=r"suggest.input is other.tif, but .*set config.suggest.points"):
        suggest(tmp_path, config)


def test_points_are_not_drawn_from_an_enlarged_prediction(tmp_path):
    """They count voxels of level 0, but the model saw those of a coarser level."""
    folder = tmp_path / "prediction"
    folder.mkdir()
    for path, high in ((tmp_path / "em.zarr", 255), (folder / "mask_probability.zarr", 200)):
        with open_writer(path, (8, 600, 600), np.uint8, (20.0, 4.0, 4.0)) as writer:
            for z in range(8):
                writer.write(z, np.full((600, 600), high, np.uint8))
    record = {"volume": str(tmp_path / "em.zarr"), "config.predict.region": "", "config.predict.full_size": True}
    (folder / "mask.json").write_text(json.dumps(record))
    config = dualrel_jax.get_config("dualrel:own")
    config.suggest.points = 10
    with pytest.raises(InputError, match="was enlarged from a coarser level .*; predict without it"):
        suggest(tmp_path, config)
