"""Prediction from levels of pyramids, from stores and into them, with a stand-in for the network."""

import contextlib
import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import stores
from ml_collections import ConfigDict
from scipy import ndimage
from stand_in import Dark

import dualrel_jax
from dualrel_jax.data.io import ome_zarr, remote
from dualrel_jax.data.io.output_lock import output_writer
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.inference import box_tasks, edges
from dualrel_jax.inference.windows import parse_region
from dualrel_jax.segment_instances import segment_instances
from dualrel_jax.utils import tasks

predict_module = importlib.import_module("dualrel_jax.predict")  # dualrel_jax.predict is the function


class PlainDark(Dark):
    """How dark each pixel is."""

    def probability(self, variables, images):
        return 1 - images / np.float32(255)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(ome_zarr, "CHUNK", (4, 32, 48))


@pytest.fixture
def pyramid(tmp_path):
    """Levels of 10 x 5 x 5, 10 x 10 x 10 and coarser ones, of a volume with structures of many pixels."""
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(6, 60, 72)), (1, 4, 4))
    array = (128 + 900 * field).clip(1, 254).astype(np.uint8)
    with open_writer(tmp_path / "em.zarr", array.shape, np.uint8, (10.0, 5.0, 5.0), reduction="mean") as writer:
        for z, image in enumerate(array):
            writer.write(z, image)
    return tmp_path / "em.zarr"


@pytest.fixture
def predict(monkeypatch, tmp_path):
    """A function (network, settings) -> paths, of a run that was trained with pixels of 10 nm."""

    def run(network=None, cluster="", **settings):
        config = dualrel_jax.get_config("supervised:own")
        config.predict.update({"tile": 16, "overlap": 4, "window_px": 48, "z_smoothing_nm": 0.0, "threshold": 0.5})
        config.predict.update({"intensity_range": "0,255", "domain": "training", **settings})
        method = SimpleNamespace(main_head="default", prediction_head_elsewhere="default")
        run = SimpleNamespace(config=config, method=method, variables=1.0, pixel_nm=(10.0, 10.0))
        run.predictor_of = lambda head: network or PlainDark()
        run.workdir = tmp_path / "run"
        run.workdir.mkdir(exist_ok=True)
        (run.workdir / "run.json").write_text('{"labelled_volumes": []}')
        monkeypatch.setattr(predict_module, "load_run", lambda *_: run)
        return predict_module.predict(run.workdir, config, cluster)

    return run


def test_the_level_with_the_training_pixels_is_segmented(predict, pyramid, tmp_path, capsys):
    paths = predict(input=str(pyramid), output=str(tmp_path / "mask.zarr"))
    assert "Level 1 of 0 to 1 is read: the coarsest whose" in capsys.readouterr().out
    mask, image = open_volume(paths["mask"]), open_volume(f"{pyramid}:1")
    np.testing.assert_array_equal(mask[:] > 0, image[:] < 127.5)
    assert mask.voxel_nm == image.voxel_nm == (10.0, 10.0, 10.0) and mask.origin_nm == image.origin_nm == (0, 2.5, 2.5)
    assert json.loads(paths["about"].read_text())["volume"] == f"{pyramid}:1"


def test_a_region_counts_voxels_of_level_0_whatever_is_read(predict, pyramid, tmp_path):
    paths = predict(input=str(pyramid), output=str(tmp_path / "mask.zarr"), region="1:4,11:31,20:60")
    mask, image = open_volume(paths["mask"]), open_volume(f"{pyramid}:1")
    np.testing.assert_array_equal(mask[:] > 0, image[1:4, 5:16, 10:30] < 127.5)
    assert mask.origin_nm == (10.0, 52.5, 102.5)


def test_another_level_can_be_asked_for(predict, pyramid, tmp_path):
    assert open_volume(predict(input=str(pyramid), output=str(tmp_path / "a.zarr"), level="0")["mask"]).shape[1] == 60
    named = predict(input=f"{pyramid}:1", output=str(tmp_path / "b.zarr"))
    assert open_volume(named["mask"]).shape == open_volume(f"{pyramid}:1").shape


@pytest.fixture
def by_tasks(monkeypatch):
    """Tasks run in this process, as workers would, each of which finds the run that `predict` has."""
    monkeypatch.setattr(predict_module, "open_cluster", lambda _: contextlib.nullcontext(tasks.in_this_process))
    monkeypatch.setattr(box_tasks, "load_run", lambda *_: predict_module.load_run())


@pytest.mark.parametrize("region", ["", "1:4,11:31,20:60"])
def test_the_mask_can_have_the_voxels_of_level_0(predict, by_tasks, pyramid, tmp_path, region, capsys):
    """Of level 1, whose voxels are twice as large in y and x: in one process, and by tasks."""
    settings = {"input": str(pyramid), "region": region, "full_size": True}
    paths = predict(output=str(tmp_path / "mask.zarr"), **settings)
    assert f"The mask has the voxels of {pyramid}, 6 x 60 x 72." in capsys.readouterr().out
    coarse = 1 - open_volume(f"{pyramid}:1")[:].astype(np.float32) / 255
    at = np.mgrid[:6, :60, :72] - np.array([0, 0.5, 0.5])[:, None, None, None]
    at[1:] /= 2
    z, y, x = parse_region(region, (6, 60, 72))
    expected = ndimage.map_coordinates(coarse, at, order=1, mode="nearest")[z, y, x]
    mask, probability = (open_volume(paths[name]) for name in ("mask", "probability"))
    np.testing.assert_allclose(probability[:] / 255, expected, atol=0.51 / 255)
    np.testing.assert_array_equal(mask[:][abs(expected - 0.5) > 1e-4] > 0, expected[abs(expected - 0.5) > 1e-4] > 0.5)
    assert mask.voxel_nm == (10.0, 5.0, 5.0)
    assert mask.origin_nm == (z.start * 10.0, y.start * 5.0, x.start * 5.0)
    finest = open_volume(pyramid)
    assert json.loads(paths["about"].read_text())["volume"] == finest.path
    again = predict(output=str(tmp_path / "tasks.zarr"), cluster="local:1", task_slices=4, **settings)
    for name in ("mask", "probability"):
        np.testing.assert_array_equal(open_volume(again[name])[:], open_volume(paths[name])[:])
    assert open_volume(again["mask"]).origin_nm == mask.origin_nm


@pytest.mark.parametrize("how", [{"output": "mask.tif"}, {"output": "mask.zarr"}, {"cluster": "local:1"}])
@pytest.mark.parametrize("where", ["moved_mask", "write_beside"])
def test_edges_that_a_kill_left_are_moved_once(predict, by_tasks, pyramid, tmp_path, monkeypatch, how, where):
    """Killed among blocks nothing is predicted again; killed before the last record no edge is moved twice."""
    settings = {"input": str(pyramid), "edge_nm": 20.0, "cluster": how.get("cluster", "")}
    name = how.get("output", "mask.zarr")
    monkeypatch.setattr(edges, "DEPTH", 4)
    expected = open_volume(predict(output=str(tmp_path / "whole" / name), **settings)["mask"])[:]
    killed, blocks = str(tmp_path / name), iter([edges.moved_mask] if where == "moved_mask" else [])
    with monkeypatch.context() as patched, pytest.raises(StopIteration):
        patched.setattr(edges, where, lambda *parts: next(blocks)(*parts))
        predict(output=killed, **settings | {"edge_nm": 20.0 if where == "write_beside" else -20.0})
    record = json.loads((tmp_path / "mask.json").read_text())
    assert record["config.predict.edge_nm"] == 0 and (edges.UNMOVED in record) == (where == "moved_mask")
    network = PlainDark()
    paths = predict(network, output=killed, **settings)
    assert (network.calls == 0) == (where == "moved_mask")
    np.testing.assert_array_equal(open_volume(paths["mask"])[:], expected)
    record = json.loads(paths["about"].read_text())
    assert record["config.predict.edge_nm"] == 20 and edges.UNMOVED not in record
    assert record == json.loads((tmp_path / "whole" / "mask.json").read_text())
    assert set(paths) == {"mask", "probability", "picture", "about"} and not list(tmp_path.glob("*.part"))


@pytest.fixture
def s3(endpoint, monkeypatch, pyramid):
    """A store with the pyramid at s3://bucket/em.zarr."""
    stores.use(monkeypatch, endpoint)
    stores.upload(pyramid, "s3://bucket/em.zarr")
    return endpoint


def keys(prefix):
    return {key.decode() for key in remote.open_store(remote.as_place(f"s3://bucket/{prefix}")).list().result()}


def test_a_volume_in_a_store_is_segmented_into_the_store(predict, s3, pyramid, tmp_path, capsys):
    paths = predict(input="s3://bucket/em.zarr", output="s3://bucket/out/mask.zarr")
    local = predict(input=str(pyramid), output=str(tmp_path / "mask.zarr"))
    for name in ("mask", "probability"):
        remote_volume, local_volume = open_volume(paths[name]), open_volume(local[name])
        np.testing.assert_array_equal(remote_volume[:], local_volume[:])
        assert remote_volume.voxel_nm == local_volume.voxel_nm and remote_volume.origin_nm == local_volume.origin_nm
    assert str(paths["mask"]) == "s3://bucket/out/mask.zarr"
    side = tmp_path / "run/prediction/s3/bucket/out"
    assert {path.name for path in side.iterdir()} == {"mask.json", "mask.png"}
    assert {path.name for path in (tmp_path / "run/prediction").iterdir()} == {"s3", "last.json"}
    record = (side / "mask.json").read_text()
    assert json.loads(record)["volume"] == "s3://bucket/em.zarr:1"
    assert json.loads(record)["output"] == "s3://bucket/out/mask.zarr"
    assert "hidden-key" not in record + capsys.readouterr().out


def test_a_prediction_into_a_store_continues_and_is_no_image_before_its_end(predict, s3, tmp_path):
    settings = {"input": "s3://bucket/em.zarr", "output": "s3://bucket/again/mask.zarr", "probability": False}
    with pytest.raises(KeyboardInterrupt):
        predict(PlainDark(lives=5), **settings)
    assert "0/zarr.json" in keys("again/mask.zarr") and "zarr.json" not in keys("again/mask.zarr")
    number = dualrel_jax.get_config("supervised:own")
    number = ConfigDict({"predict": number.predict, "instances": number.instances})
    number.predict.voxel_nm, number.instances.input = "10,10,10", "s3://bucket/again/mask_probability.zarr"
    with pytest.raises(InputError, match="mask_probability.zarr is unfinished: its array 0 is there.*repeat the comm"):
        segment_instances(tmp_path / "run", number)
    with output_writer(remote.as_place(number.instances.input).with_side(tmp_path / "run/prediction"), "--output"):
        with pytest.raises(InputError, match="being written, or was left unfinished, by .*/run/prediction on .*delete"):
            segment_instances(tmp_path / "run", number)
    network = PlainDark()
    paths = predict(network, **settings)
    assert network.calls < 12  # of 12 in two layers and one window
    np.testing.assert_array_equal(open_volume(paths["mask"])[:] > 0, open_volume("s3://bucket/em.zarr:1")[:] < 127.5)
    predict(**settings | {"threshold": 0.4})  # replaces it
    assert not (open_volume(paths["mask"])[:] == open_volume("s3://bucket/em.zarr:1")[:]).all()


def test_outputs_of_one_name_share_nothing_in_the_run(predict, s3, tmp_path, capsys):
    """One is killed, one of another part of the volume is made, then the first one continues."""
    killed = {"input": "s3://bucket/em.zarr", "output": "s3://bucket/r1/mask.zarr", "threshold": 0.3}
    with pytest.raises(KeyboardInterrupt):
        predict(PlainDark(lives=5), **killed)
    other = predict(input="s3://bucket/em.zarr", output="s3://bucket/r2/mask.zarr", region="0:2", threshold=0.7)
    network = PlainDark()
    paths = predict(network, **killed)
    assert 0 < network.calls < 12
    image = open_volume("s3://bucket/em.zarr:1")[:]
    np.testing.assert_array_equal(open_volume(paths["mask"])[:] > 0, 1 - image / np.float32(255) > 0.3)
    np.testing.assert_array_equal(open_volume(other["mask"])[:] > 0, 1 - image[:2] / np.float32(255) > 0.7)
    settings = dualrel_jax.get_config("supervised:own")
    settings = ConfigDict({"predict": settings.predict, "instances": settings.instances})
    for folder, threshold in {"r1": 0.3, "r2": 0.7}.items():
        settings.instances.input = f"s3://bucket/{folder}/mask_probability.zarr"
        settings.instances.output = f"s3://bucket/{folder}/cells.zarr"
        paths = segment_instances(tmp_path / "run", settings)
        assert json.loads(paths["json"].read_text())["settings"]["threshold"] == threshold
    assert "there is no record" not in capsys.readouterr().out
    segment_instances(tmp_path / "another run", settings)
    assert "r2/mask.json): the threshold is 0.5; --config.instances.threshold" in capsys.readouterr().out


def test_nothing_foreign_in_a_store_is_replaced(predict, s3):
    remote.open_store(remote.as_place("s3://bucket")).write("theirs.zarr/.zgroup", b"{}").result()
    with pytest.raises(InputError, match="theirs.zarr, which is an image that dualrel_jax did not write"):
        predict(input="s3://bucket/em.zarr", output="s3://bucket/theirs.zarr")
    remote.open_store(remote.as_place("s3://bucket")).write("hidden.zarr/raw/.zarray", b"{}").result()
    with pytest.raises(InputError, match="holds raw/.zarray, which dualrel_jax did not write"):
        predict(input="s3://bucket/em.zarr", output="s3://bucket/hidden.zarr")
    assert keys("hidden.zarr") == {"raw/.zarray"}
    for output, reason in {"s3://bucket/em.zarr": "the volume itself", "s3://bucket/a.tif": "only OME-Zarr"}.items():
        with pytest.raises(InputError, match=reason):
            predict(input="s3://bucket/em.zarr", output=output)
    with pytest.raises(InputError, match="can only be read"):
        predict(input="s3://bucket/em.zarr", output=f"{s3}/bucket/mask.zarr")


def test_shards_hold_many_chunks_and_are_written_once(predict, pyramid, tmp_path, monkeypatch):
    monkeypatch.setattr(ome_zarr, "CHUNK", (4, 16, 16))
    monkeypatch.setattr(ome_zarr, "SHARD_BYTES", 4 * 32 * 64)
    assert ome_zarr.shard_shape(1) == (4, 32, 64)
    plain = predict(input=str(pyramid), output=str(tmp_path / "plain.zarr"), level="0")
    with pytest.raises(KeyboardInterrupt):
        predict(PlainDark(lives=9), input=str(pyramid), output=str(tmp_path / "mask.zarr"), level="0", shards=True)
    part = tmp_path / "mask_probability.zarr.part"
    written = {path: path.stat().st_mtime_ns for path in part.glob("0/c/*/*/*")}
    network = PlainDark()
    paths = predict(network, input=str(pyramid), output=str(tmp_path / "mask.zarr"), level="0", shards=True)
    assert network.calls < 24 and written
    for path, written_ns in written.items():
        assert (paths["probability"] / path.relative_to(part)).stat().st_mtime_ns == written_ns
    for level in range(3):
        np.testing.assert_array_equal(*(open_volume(f"{p['mask']}:{level}")[:] for p in (plain, paths)))
    assert len([*paths["probability"].glob("0/c/*/*/*")]) == 2 * 2 * 2
    assert len([*plain["probability"].glob("0/c/*/*/*")]) == 2 * 4 * 5


def test_instances_of_a_store_are_counted_in_the_store(s3, tmp_path, monkeypatch):
    probability = np.zeros((6, 60, 72), np.uint8)
    probability[1:5, 10:30, 8:30] = probability[2:4, 40:55, 40:64] = 200
    settings = dualrel_jax.get_config("supervised:own")
    settings = ConfigDict({"predict": settings.predict, "instances": settings.instances})
    counts = {}
    for place in ("s3://bucket/counted", str(tmp_path)):
        with open_writer(f"{place}/p_probability.zarr", probability.shape, np.uint8, (20.0, 20.0, 20.0)) as writer:
            for z, image in enumerate(probability):
                writer.write(z, image)
        settings.instances.update({"input": f"{place}/p_probability.zarr", "output": f"{place}/instances.zarr"})
        for smallest_um3 in (0.0, 0.01):  # the second output replaces the first, with one instance less
            settings.instances.min_um3 = smallest_um3
            paths = segment_instances(tmp_path / "run", settings)
        counts[place] = open_volume(paths["instances"])[:], paths["csv"].read_text()
    np.testing.assert_array_equal(*(labels for labels, _ in counts.values()))
    assert {int(labels.max()) for labels, _ in counts.values()} == {1}
    assert len({table for _, table in counts.values()}) == 1
    assert {path.name for path in (tmp_path / "run/instances/s3/bucket/counted").iterdir()} == {
        f"instances.{n}" for n in ("csv", "json", "png")
    }
