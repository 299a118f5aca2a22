"""Prediction of volumes in blocks, continued after a kill, with a stand-in for the network: dark is mitochondrion."""

import importlib
import json
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from stand_in import Dark

import dualrel_jax
from dualrel_jax.data.io import ome_zarr, writers
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference import orthogonal_planes, write_mask, z_smoothing
from dualrel_jax.inference.predict_volume import predict_volume
from dualrel_jax.inference.unsure_parts import sure_mask

SHAPE = (11, 50, 70)
VOXEL_NM = (5.0, 5.0, 5.0)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(ome_zarr, "CHUNK", (4, 16, 16))


@pytest.fixture
def volume():
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1.5)
    return Volume.from_array((128 + 300 * field).clip(0, 255).astype(np.uint8), VOXEL_NM, "noise")


@pytest.fixture
def predict(volume, tmp_path):
    """A function (output, settings) -> mask and probability z y x as they were written."""

    def run(output="a/mask.zarr", network=None, volume=volume, variables=1.0, **changed):
        settings = dualrel_jax.get_config("supervised:phantom").predict
        settings.update(
            {"tile": 16, "overlap": 4, "window_px": 32, "intensity_range": "0,255", "z_smoothing_nm": 0.0, **changed}
        )
        path = tmp_path / output
        paths, share = predict_volume(network or Dark(), variables, volume, path, settings, pixel_nm=None)
        assert sorted(entry.name for entry in path.parent.iterdir()) == sorted(p.name for p in paths.values())
        mask, probability = (open_volume(paths[name], verbose=False)[:] for name in ("mask", "probability"))
        assert share == pytest.approx((mask > 0).mean())
        return mask, probability

    return run


def section_means(volume, axis):
    """How dark, by `Dark`, in sections across `axis`: filtered along the last of the two other axes."""
    return ndimage.uniform_filter1d(1 - volume[:] / np.float32(255), 5, axis=1 if axis == 2 else 2)


def test_blocks_are_seamless_and_equal_the_whole(predict, volume):
    whole = predict("a/mask.tif")
    blocks = predict("b/mask.zarr")
    np.testing.assert_array_equal(blocks[1], np.rint(section_means(volume, 0) * 255))
    for one, other in zip(whole, blocks, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_region_is_a_view_of_the_whole(predict, tmp_path):
    whole = predict("a/mask.tif")
    for i, output in enumerate(("b/mask.zarr", "c/mask.tif")):
        part = predict(output, region="3:9,5:45,20:")[i]
        np.testing.assert_array_equal(part, whole[i][3:9, 5:45, 20:])
    level = json.loads((tmp_path / "b/mask.zarr/zarr.json").read_text())["attributes"]["ome"]["multiscales"][0][
        "datasets"
    ][0]
    assert level["coordinateTransformations"][1]["translation"] == [15, 25, 100]


@pytest.mark.parametrize(
    "options", [{}, {"region": "1:,,3:60"}, {"z_smoothing_nm": 7.0}, {"planes": "xyz", "z_smoothing_nm": 4.0}]
)
def test_a_killed_prediction_is_continued(predict, options, tmp_path):
    whole = Dark()
    expected = predict("a/mask.zarr", whole, **options)
    for lives in (whole.calls // 4, whole.calls // 2):
        with pytest.raises(KeyboardInterrupt):
            predict("b/mask.zarr", Dark(lives), **options)
        assert (tmp_path / "b/mask.zarr.progress.json").exists() and not (tmp_path / "b/mask.zarr").exists()
    last = Dark()
    for one, other in zip(expected, predict("b/mask.zarr", last, **options), strict=True):
        np.testing.assert_array_equal(one, other)
    assert last.calls < whole.calls


@pytest.fixture
def faint(volume):
    """Two dark blobs across windows and chunks, one of them less dark, on bright ground: by `Dark` 0.9 and 0.6."""
    array = np.full(SHAPE, 250, np.uint8)
    array[2:9, 5:25, 10:40], array[3:8, 30:45, 40:60] = 25, 102
    return Volume.from_array(array, VOXEL_NM, "blobs")


@pytest.mark.parametrize("output", ["a/mask.zarr", "a/mask.tif"])
def test_parts_of_the_mask_that_are_not_sure_are_left_out(predict, faint, output):
    mask, probability = predict(output, volume=faint, unsure_margin=0.15)
    assert (mask[2:9, 8:22, 13:37] == 255).all() and not mask[:, 27:].any()
    assert probability[:, 27:].max() > 150
    every, same = predict(output.replace("a/", "b/"), volume=faint, unsure_margin=1.0)
    np.testing.assert_array_equal(same, probability)
    np.testing.assert_array_equal(every > 0, probability > 127.5)
    np.testing.assert_array_equal(mask[:, :27], every[:, :27])


@pytest.mark.parametrize("output", ["mask.zarr", "mask.tif"])
def test_without_the_probability_the_mask_is_the_same(predict, faint, tmp_path, output):
    expected, _ = predict(f"a/{output}", volume=faint, unsure_margin=0.15)
    settings = dualrel_jax.get_config("supervised:phantom").predict
    changed = {"tile": 16, "overlap": 4, "window_px": 32, "intensity_range": "0,255", "z_smoothing_nm": 0.0}
    settings.update({**changed, "probability": False, "unsure_margin": 0.15})
    paths, _ = predict_volume(Dark(), 1.0, faint, tmp_path / "b" / output, settings, pixel_nm=None)
    np.testing.assert_array_equal(open_volume(paths["mask"])[:], expected)
    assert {path.name for path in (tmp_path / "b").iterdir()} == {output, "mask.png", "mask.json"}


def test_a_prediction_killed_while_its_mask_is_made_predicts_nothing_again(predict, faint, monkeypatch):
    expected = predict("a/mask.zarr", volume=faint, unsure_margin=0.15)
    boxes = iter(range(3))
    monkeypatch.setattr(write_mask, "SIDES", (4, 16, 16))
    with monkeypatch.context() as patched:
        patched.setattr(write_mask, "sure_mask", lambda *parts: next(boxes) and sure_mask(*parts))
        with pytest.raises((StopIteration, RuntimeError)):
            predict("b/mask.zarr", volume=faint, unsure_margin=0.15)
    network = Dark()
    for one, other in zip(expected, predict("b/mask.zarr", network, volume=faint, unsure_margin=0.15), strict=True):
        np.testing.assert_array_equal(one, other)
    assert network.calls == 0


def test_a_kill_while_earlier_outputs_are_deleted_loses_nothing(predict, tmp_path, monkeypatch):
    predict("a/mask.zarr", threshold=0.4)
    expected, remove = predict("b/mask.zarr", threshold=0.6), writers.remove

    def killed(place):
        if place.is_dir():
            raise KeyboardInterrupt
        remove(place)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(writers, "remove", killed)
        predict("a/mask.zarr", threshold=0.6)
    for name, array in zip(("mask", "mask_probability"), expected, strict=True):
        np.testing.assert_array_equal(open_volume(tmp_path / "a" / f"{name}.zarr")[:], array)
    assert json.loads((tmp_path / "a/mask.json").read_text())["config.predict.threshold"] == 0.6
    assert not list((tmp_path / "a").glob("*progress*"))
    predict("a/mask.zarr", threshold=0.6)  # asserts that nothing else stays


def test_another_prediction_does_not_continue_a_killed_one(predict, volume, tmp_path):
    def killed():
        with pytest.raises(KeyboardInterrupt):
            predict("b/mask.zarr", Dark(20))

    killed()
    other = Volume.from_array(volume[:] // 2, VOXEL_NM, "noise")
    for said, change in [
        ("config.predict.threshold .0.0 there, 0.6 now.*delete", {"threshold": 0.6}),
        ("config.predict.region", {"region": "2:,,"}),
        ("another model", {"variables": 0.9}),
        ("another content", {"volume": other}),
        ("another voxel size", {"volume": Volume.from_array(volume[:], (9, 5, 5), "noise")}),
    ]:
        with pytest.raises(InputError, match=said):
            predict("b/mask.zarr", **change)
    (tmp_path / "b/mask.zarr.progress.json").unlink()
    again, fresh = predict("b/mask.zarr", threshold=0.6), predict("c/mask.zarr", threshold=0.6)
    np.testing.assert_array_equal(again[0], fresh[0])

    network = Dark()
    killed()
    predict("b/mask.zarr", network, batch=1)  # does not change the result
    assert 0 < network.calls < 11 * 6


def test_slices_of_one_grey_are_nobodys(predict, volume):
    array = volume[:]
    array[2:] = 7
    array[5, :, 60:] = 0
    network = Dark()
    mask, probability = predict(network=network, volume=Volume.from_array(array, VOXEL_NM), window_px=0)
    assert network.calls == 3
    assert probability[:2].any() and probability[5].any() and not probability[3].any() and not mask[6:].any()


def test_smoothing_is_a_gaussian_mean_of_the_slices_there_are(predict, volume):
    _, probability = predict(z_smoothing_nm=9.0)
    plain, z = section_means(volume, 0), np.arange(11)
    weights = np.exp(-0.5 * ((z[:, None] - z) / 1.8) ** 2) * (abs(z[:, None] - z) <= 6)
    expected = np.einsum("ab,byx->ayx", weights / weights.sum(1, keepdims=True), plain)
    np.testing.assert_allclose(probability, expected * 255, atol=1)


class Slanted(Dark):
    """A network that sees less towards the left and the top of what it is shown."""

    def __call__(self, variables, image):
        ramp = np.linspace(0, 1, image.shape[-1]) * np.linspace(0, 1, image.shape[-2])[:, None]
        return super().__call__(variables, image) * ramp.astype(np.float32)


def test_a_mean_along_z_is_one_over_mirrored_slices_too(predict):
    alike = Volume.from_array(np.full(SHAPE, 55, np.uint8) + np.arange(70, dtype=np.uint8), VOXEL_NM, "alike")
    slanted = {"network": Slanted(), "volume": alike, "window_px": 0}
    seen, mean = (predict(f"{nm}/mask.tif", z_smoothing_nm=nm, **slanted)[1] / 255 for nm in (0.0, 15.0))
    dark = section_means(alike, 0)[0]
    assert not seen[0, 0].any() and not seen[0, :, 0].any()
    np.testing.assert_allclose(mean[5], dark / 4, atol=0.02)  # the mean of the ramp and its three mirror images


@pytest.mark.parametrize("how", [{}, {"planes": "xyz"}, {"z_smoothing_nm": 9.0}, {"region": "2:9,5:45,20:"}])
@pytest.mark.parametrize("share", [0.1, 0.7])
def test_masks_cover_a_known_share(predict, tmp_path, how, share):
    mask, _ = predict("a/mask.tif", foreground_fraction=share, **how)  # of so few slices the sample is all of them
    assert (mask > 0).mean() == pytest.approx(share, abs=0.01)
    about = json.loads((tmp_path / "a" / "mask.json").read_text())
    assert (
        about["config.predict.foreground_fraction"] == share and 0 < about["config.predict.threshold"] < 1
    )  # what instances take
    assert (predict("b/mask.zarr", foreground_fraction=share, **how)[0] > 0).mean() == pytest.approx(
        share, abs=0.05
    )  # 16 blocks of 66


def test_slices_of_unknown_distance_are_not_averaged(predict, volume, capsys):
    _, plain = predict("a/mask.tif")
    apart = Volume.from_array(volume[:], (float("nan"), 5.0, 5.0), "noise")
    np.testing.assert_array_equal(predict("b/mask.tif", volume=apart, z_smoothing_nm=20.0)[1], plain)
    assert "distance of its slices" in capsys.readouterr().out


def test_the_voxel_size_of_a_file_of_the_training_is_the_one_it_had_there(tmp_path, monkeypatch, capsys):
    """Whatever the file says, or does not say."""
    image = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
    for name in ("trained", "another"):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    config = dualrel_jax.get_config("supervised:own,all")
    config.data.image, settings = str(tmp_path / "trained.tif"), config.predict
    settings.update({"input": str(tmp_path / "trained.tif"), "tile": 16, "overlap": 4})
    tifffile.imwrite(tmp_path / "trained.tif", image, imagej=True, metadata={"spacing": 5, "unit": "nm"})
    trained = Volume.from_array(image, (30.0, 8.0, 8.0), str(tmp_path / "trained.tif"))
    part = SimpleNamespace(image=trained, view=trained)
    seen = {"path": str(tmp_path / "trained.tif"), "voxel_nm": [30, 8, 8], "greys": [0.5] * 25, "detail": 1.0}
    checksums = {"own/train": {"3": [zlib.crc32(image[3].tobytes()), 0]}}
    (tmp_path / "run.json").write_text(json.dumps({"labelled_volumes": [seen], "slice_checksums": checksums}))
    run = SimpleNamespace(
        workdir=tmp_path,
        config=config,
        dataset=SimpleNamespace(train=[part], validation=[], test=[]),
        method=SimpleNamespace(main_head="head", prediction_head_elsewhere="prototypes"),
        pixel_nm=(8.0, 8.0),
        predictor_of=lambda head: Dark(),
        calibrated_threshold=lambda head, smoothing_nm: 0.7,
        variables=1.0,
    )
    module = importlib.import_module("dualrel_jax.predict")
    monkeypatch.setattr(module, "load_run", lambda workdir, config: run)
    paths = dualrel_jax.predict(tmp_path, config)
    assert open_volume(paths["mask"]).voxel_nm == (30, 8, 8)
    record = json.loads(paths["about"].read_text())
    assert (record["config.predict.prediction_head"], record["config.predict.threshold"]) == ("default", 0.7)
    printed = capsys.readouterr().out
    assert "its labels were learned" in printed and len(re.findall("trained.tif: .*axes", printed)) == 1
    assert "voxel 30 x 8 x 8 nm, as in the training" in printed
    settings.input = str(tmp_path / "another.tif")
    with pytest.raises(InputError, match="mask.tif, which is made from .*trained.tif; name another output"):
        dualrel_jax.predict(tmp_path, config)
    settings.output = str(tmp_path / "another" / "mask.tif")
    paths = dualrel_jax.predict(tmp_path, config)
    assert open_volume(paths["mask"]).voxel_nm is None
    record = json.loads(paths["about"].read_text())
    assert (record["config.predict.prediction_head"], record["config.predict.threshold"]) == ("prototypes", 0.4)
    assert "--config.predict.domain=training chooses otherwise" in capsys.readouterr().out

    (tmp_path / "slices").mkdir()
    for number, array in zip((0, 1, 2, 4, 5), image, strict=False):
        tifffile.imwrite(tmp_path / f"slices/{number}.tif", array)
    settings.input = str(tmp_path / "slices")
    settings.output = str(tmp_path / "of_slices" / "mask.tif")
    dualrel_jax.predict(tmp_path, config)
    assert re.search("^look: Number 3 is missing between the files of .*slices", capsys.readouterr().out, re.MULTILINE)
    for output, problem in (
        ("slices/mask.tif", "the volume itself"),
        ("a.h5:raw.tif", "inside a file"),
        ("a", "no type"),
    ):
        settings.output = str(tmp_path / output)
        with pytest.raises(InputError, match=problem):
            dualrel_jax.predict(tmp_path, config)
        assert "chooses otherwise" not in capsys.readouterr().out  # nothing was computed

    tifffile.imwrite(tmp_path / "trained.tif", image[:, ::-1])  # in its place
    settings.update({"input": str(tmp_path / "trained.tif"), "output": str(tmp_path / "replaced" / "mask.tif")})
    part.view = open_volume(settings.input)
    paths = dualrel_jax.predict(tmp_path, config)
    assert open_volume(paths["mask"]).voxel_nm is None
    assert "trained.tif is segmented as a volume of another kind: the file at" in capsys.readouterr().out
    settings.update({"output": "", "voxel_nm": "30000,10000,10000"})
    with pytest.raises(InputError, match="predict.voxel_nm=30000.* 0.5 to 100 nm"):
        dualrel_jax.predict(tmp_path, config)


def test_sections_across_z_count_as_much_as_slices(predict, volume):
    expected = np.average([section_means(volume, axis) for axis in range(3)], axis=0, weights=[2, 1, 1])
    for output in ("a/mask.zarr", "b/mask.tif"):
        mask, probability = predict(output, planes="xyz")
        np.testing.assert_allclose(probability, expected * 255, atol=1)
        clear = abs(expected - 0.5) > 0.01
        np.testing.assert_array_equal(mask[clear] > 0, expected[clear] > 0.5)
    region = predict("c/mask.zarr", planes="xyz", region="3:9,5:45,20:")[1]
    np.testing.assert_allclose(region, expected[3:9, 5:45, 20:] * 255, atol=1)


@pytest.mark.parametrize(
    ("change", "voxel_nm", "said"),
    [
        ({"planes": "xyz"}, (30, 8, 8), "30 x 8 x 8 nm.*1.5 times"),
        ({"planes": "xyz"}, None, "needs the voxel size"),
        ({"region": "5:99,,"}, VOXEL_NM, "z is '5:99'"),
    ],
)
def test_what_cannot_be_is_explained(predict, volume, change, voxel_nm, said):
    with pytest.raises(InputError, match=said):
        predict(volume=Volume.from_array(volume[:], voxel_nm, "noise"), **change)


def test_an_unknown_range_of_greys_is_explained(predict):
    with pytest.raises(InputError, match="hardly anything but 7.*intensity_range=low,high"):
        predict(volume=Volume.from_array(np.full(SHAPE, 7, np.uint8)), intensity_range="")


def test_the_volume_itself_is_not_overwritten(predict, tmp_path):
    predict("a/mask.tif")
    with pytest.raises(InputError, match="the volume itself"):
        predict("a/mask.tif", volume=open_volume(tmp_path / "a/mask.tif"))


def test_smoothing_holds_no_more_slices_than_it_needs():
    held, most = [], 0

    def slices():
        nonlocal most
        for z in range(40):
            held.append(z)
            yield np.full((2, 2), z / 40, np.float32)

    for z, section in zip(range(10, 30), z_smoothing.smoothed(slices(), range(40), range(10, 30), 1.5), strict=True):
        assert held[-1] == z + 5
        np.testing.assert_allclose(section, z / 40, atol=1e-4)


def test_halves_are_averaged_as_floats_are():
    values = np.linspace(0, 1, 12).reshape(3, 2, 2)
    means = [
        list(z_smoothing.smoothed(iter(values.astype(dtype)), range(3), range(3), 1.0))
        for dtype in (np.float16, np.float32)
    ]
    np.testing.assert_allclose(*means, atol=1e-3)


def test_a_missing_slice_stays_empty_and_takes_nothing_from_its_neighbours():
    there = np.full((2, 2), 0.8, np.float32)
    sections = [there, there, None, there, there]
    found = list(z_smoothing.smoothed(iter(sections), range(5), range(5), 1.0))
    assert found[2] is None
    for z in (0, 1, 3, 4):
        np.testing.assert_allclose(found[z], 0.8, atol=1e-3)
    others = np.full((2, 5, 2, 2), 204, np.uint8)
    found = list(orthogonal_planes.averaged(iter(sections), others))
    assert found[2] is None
    np.testing.assert_allclose(found[1], 0.8, atol=1e-3)
