"""A person's own volume: which slices are labelled, blocks in z, test volumes and pixel sizes."""

import re

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tiny import config, volume, write_slices, write_test_volume

from dualrel_jax.data.datasets.labels import LabelRule, check_values
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.regions import GAP
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError


def zs_of(part):
    return part.zs[0], part.zs[-1] + 1


MASK = volume(24)[1].astype(np.uint8)


def test_labels_of_some_slices_by_file_name(own):
    part = load_dataset(own({f"run7_mask_{z:03d}.png": MASK[z] * 255 for z in (20, 3, 9)})).train[0]
    assert (part.labelled_zs, len(part.zs)) == ((3, 9, 20), 24)
    for z in part.labelled_zs:
        assert np.array_equal(part.label_at(z), MASK[z])


def test_file_names_follow_those_of_an_image_folder_that_counts_from_one(tmp_path):
    image, mask = volume(12)
    write_slices(tmp_path / "image", image, [f"im{z + 1}.tif" for z in range(12)])
    write_slices(tmp_path / "label", mask[[2, 10]].astype(np.uint8), ["im3.tif", "im11.tif"])
    part = load_dataset(config("own", "all", image=str(tmp_path / "image"), label=str(tmp_path / "label"))).train[0]
    assert part.labelled_zs == (2, 10)
    assert np.array_equal(part.label_at(10), mask[10])
    write_slices(tmp_path / "label", mask[[0]].astype(np.uint8), ["im99.tif"])
    with pytest.raises(InputError, match="im99.tif labels slice 99"):
        load_dataset(config("own", "all", image=str(tmp_path / "image"), label=str(tmp_path / "label")))


def test_the_number_of_a_file_is_the_last_that_varies(tmp_path, capsys):
    image, mask = volume(12)
    names = [f"s{z + 4}_x0_y0_5nm.png" for z in range(12)]
    write_slices(tmp_path / "image", image, names)
    write_slices(tmp_path / "label", mask[[2, 10]].astype(np.uint8), [f"m_{names[2]}", f"m_{names[10]}"])
    paths = {"image": str(tmp_path / "image"), "label": str(tmp_path / "label")}
    assert load_dataset(config("own", "all", **paths)).train[0].labelled_zs == (2, 10)
    assert "of the numbers in the names of its files one counts, in m_s6_x0_y0_5nm.png 6." in capsys.readouterr().out


def test_masks_are_not_named_by_numbers_that_an_image_file_lacks(tmp_path):
    image, mask = volume(12)
    write_slices(tmp_path / "image", image, ["average.png", *(f"slice_{z:04d}.png" for z in range(11))])
    write_slices(tmp_path / "label", mask[[2]].astype(np.uint8), ["slice_0002.png"])
    with pytest.raises(InputError, match=r"image/average.png has no number, but 11 others do.*move away"):
        load_dataset(config("own", "all", image=str(tmp_path / "image"), label=str(tmp_path / "label")))


def test_a_full_stack_counts_its_non_empty_slices(own, capsys):
    label = np.zeros_like(MASK)
    label[[2, 5, 11]] = MASK[[2, 5, 11]]
    assert load_dataset(own(label)).train[0].labelled_zs == (2, 5, 11)
    assert "3 of 24 slices" in capsys.readouterr().out
    part = load_dataset(own(label, labelled_slices="2, 7")).train[0]
    assert part.labelled_zs == (2, 7) and part.label_at(7).sum() == 0


def test_a_short_stack_needs_the_z_of_each_slice(own):
    part = load_dataset(own(MASK[[4, 8]], labelled_slices="8,4")).train[0]
    assert part.labelled_zs == (4, 8)
    assert np.array_equal(part.label_at(8), MASK[4]) and np.array_equal(part.label_at(4), MASK[8])
    for slices, said in (
        ("", "24; expected as many.*data.labelled_slices"),
        ("1,2,3", "names 3 slices.*has 2"),
        ("4,24", "slice 24.*0 to 23.*if yours count from 1, subtract 1"),
        ("4;8", "not understood"),
    ):
        with pytest.raises(InputError, match=said):
            load_dataset(own(MASK[[4, 8]], labelled_slices=slices))


@pytest.mark.parametrize(
    "names, said",
    [
        (["a.png", "b1.png"], "no number"),
        (["a1.png", "b1.png"], "same number"),
        (["a24.png", "a2.png"], "slice 24.*0 to 23.*if yours count from 1, subtract 1"),
        *(
            (["0012.png", f"0012{mark}.png"], f"{re.escape(f'0012{mark}.png')}: looks like a copy of 0012.png")
            for mark in (" (1)", "(2)", " 2", "_v2", " copy", " copy 3", " - Copy (2)", "-1", "_1")
        ),
        (["mask 12.png", "mask 12 2.png"], "mask 12 2.png: looks like a copy of mask 12.png"),
    ],
)
def test_label_files_whose_names_do_not_tell(own, names, said):
    with pytest.raises(InputError, match=said):
        load_dataset(own(dict(zip(names, MASK[:2], strict=True))))


@pytest.mark.parametrize(
    "names",
    [
        ("s1_0001.png", "s1_0002.png"),
        ("mask_1.png", "mask_2.png"),
        ("slice_0005.png", "slice_0015.png"),
        ("z12_y1.png", "z13_y2.png"),
        ("scan (1).png", "scan (2).png"),
        ("1-1.png", "1-2.png"),
    ],
)
def test_series_are_no_copies(own, names):
    assert len(load_dataset(own(dict(zip(names, MASK, strict=False)))).train[0].labelled_zs) == 2


def test_own_refuses_what_it_cannot_use(own, tmp_path):
    with pytest.raises(InputError, match="data.image is empty"):
        load_dataset(config("own"))
    with pytest.raises(InputError, match="data.label is empty"):
        load_dataset(config("own", image="image.tif"))
    with pytest.raises(InputError, match="does not exist"):
        load_dataset(config("own", image=str(tmp_path / "none.tif"), label="x"))
    with pytest.raises(InputError, match="40 x 47.*40 x 48"):
        load_dataset(own(MASK[:, :, :47]))
    with pytest.raises(InputError, match="no labelled slice"):
        load_dataset(own(np.zeros_like(MASK)))
    with pytest.raises(InputError, match="no labelled slice"):
        load_dataset(own({"mask_3.png": MASK[3] * 0}))
    with pytest.raises(InputError, match="apart from the ignored 255; save mitochondria as 1"):
        load_dataset(own(MASK * 255, ignore_value=255))
    with pytest.raises(InputError, match="m5.png: is 40 x 47 uint8; expected 40 x 48 uint8 as in m7.png"):
        load_dataset(own({"m5.png": MASK[5, :, 1:], "m6.png": MASK[6, :, 1:], "m7.png": MASK[7]}))
    with pytest.raises(InputError, match="data.voxel_nm=5"):
        load_dataset(own(MASK, voxel_nm="5"))


def test_label_kinds(own):
    ids = MASK.astype(np.uint16) * (1 + np.arange(24, dtype=np.uint16))[:, None, None]
    with pytest.raises(InputError, match=r"0, 1, 2.*set data.label_kind=instances if each value"):
        load_dataset(own(ids))
    assert np.array_equal(load_dataset(own(ids, label_kind="instances")).train[0].native_label_at(9), MASK[9])
    grey = np.where(MASK > 0, 200, 127).astype(np.uint8)
    assert np.array_equal(load_dataset(own(grey, label_kind="grey")).train[0].native_label_at(9), MASK[9])


@pytest.mark.parametrize("background, foreground, ignore", [(0, 1, 255), (0, 255, 7), (1, 2, 0)])
def test_ignored_pixels(own, background, foreground, ignore):
    label = np.where(MASK > 0, foreground, background).astype(np.int16)
    label[:, :10] = ignore
    label[5] = ignore  # nothing but ignored pixels: not a labelled slice
    dataset = load_dataset(own(label, ignore_value=ignore, validation_region="none"))
    assert 5 not in dataset.train[0].labelled_zs
    decoded = dataset.train[0].label_at(4)
    assert (decoded[:10] == 255).all() and np.array_equal(decoded[10:], MASK[4, 10:])


@given(values=st.lists(st.integers(-1, 300) | st.integers(0, 3), min_size=1, max_size=12), ignore=st.integers(-1, 5))
def test_binary_means_at_most_one_value_beside_background_and_ignored(values, ignore):
    slices = [np.array([values], np.int32), np.array([values[:1]], np.int32)]
    kept = set(values) - {ignore}
    background = 0 if ignore else min(kept, default=0)
    if min(values) < 0:
        with pytest.raises(InputError, match="label holds the negative value"):
            check_values(slices, "binary", ignore, "label")
    elif not ignore and len(kept) == 1:
        with pytest.raises(InputError, match="label holds nothing but .*; expected two values.*or save these labels"):
            check_values(slices, "binary", ignore, "label")
    elif len(kept - {background}) > 1:
        with pytest.raises(InputError, match="label_kind=instances"):
            check_values(slices, "binary", ignore, "label")
    elif kept and background not in kept and ignore not in values:
        with pytest.raises(InputError, match="label marks every pixel"):
            check_values(slices, "binary", ignore, "label")
    else:
        foreground = check_values(slices, "binary", ignore, "label")
        decoded = LabelRule("binary", ignore, {}, foreground).decode(slices[0])[0]
        assert list(decoded) == [255 if value == ignore else int(value != background) for value in values]


@pytest.mark.parametrize("kind", ["binary", "instances", "grey"])
@pytest.mark.parametrize(
    ("decoded", "message"),
    [
        (
            MASK + 1,
            {"binary": "1, 2, but .*set data.ignore_value=0 if these are classes.*0 not labelled, 1 background"},
        ),
        (np.where(MASK, 1, -1), "negative value -1; expected .*data.ignore_value=255"),
        (np.where(MASK, 255, -1.0), "negative value -1; expected .*data.ignore_value=255"),
        (np.where(MASK, 254, 250), {"binary": "250, 254", "instances": "every pixel", "grey": "every pixel"}),
        (np.full_like(MASK, 255), "every pixel"),
    ],
)
def test_values_that_have_no_meaning_are_refused(own, kind, decoded, message):
    message = message if isinstance(message, str) else message.get(kind)
    data = own(decoded.astype(np.float32 if decoded.dtype.kind == "f" else np.int16), label_kind=kind)
    if message:
        with pytest.raises(InputError, match=message):
            load_dataset(data)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[0, -1]], np.int8), r"negative value -1 \(255 in signed bytes: save it as unsigned ones\)"),
        (np.array([[0, 2**60, 2**60 + 1]]), "0, 1152921504606846976, 1152921504606846977, but"),
    ],
)
def test_values_are_named_as_they_are(values, said):
    with pytest.raises(InputError, match=said):
        check_values([values], "binary", -1, "label")


def test_classes_with_nothing_left_unlabelled(own):
    part = load_dataset(own(MASK + 1, ignore_value=0, validation_region="none")).train[0]
    assert np.array_equal(part.label_at(4), MASK[4])


def test_further_volumes_join_without_labels(own, tmp_path):
    for i, shape in enumerate(((6, 40, 48), (5, 64, 30))):
        tifffile.imwrite(tmp_path / f"more{i}.tif", np.random.default_rng(i).integers(0, 4000, shape, np.uint16))
    paths = f"{tmp_path / 'more0.tif'}, {tmp_path / 'more1.tif'}"
    parts = load_dataset(own(MASK, unlabelled=paths, voxel_nm="30,8,8", pixel_nm=16.0)).train
    assert [part.name for part in parts] == ["own/train", "own/unlabelled1", "own/unlabelled2"]
    assert [(len(part.zs), part.labelled_zs) for part in parts[1:]] == [(6, ()), (5, ())]
    assert parts[2].image_at(4).shape == (32, 15) and parts[2].image_at(4).dtype == np.uint8


# ---------------------------------------------------------------------------------------------------------------------
# Several labelled volumes
# ---------------------------------------------------------------------------------------------------------------------


def write_two(folder):
    """Two volumes, with other values for their labels; -> their masks."""
    folder.mkdir()
    masks = []
    for i, slices in enumerate((12, 9)):
        image, mask = volume(slices, seed=i)
        tifffile.imwrite(folder / f"image{i}.tif", image)
        tifffile.imwrite(folder / f"label{i}.tif", mask.astype(np.uint8) * (1, 255)[i])
        masks.append(mask)
    return masks


def test_several_labelled_volumes(tmp_path):
    masks = write_two(tmp_path / "mice")
    paths = {key: ", ".join(f"{tmp_path}/mice/{key}{i}.tif" for i in (0, 1)) for key in ("image", "label")}
    data = config("own", "all", **paths, voxel_nm="30,8,8;50,4,4", labelled_slices="3,5;2")
    parts = load_dataset(data).train
    assert [(part.name, part.labelled_zs) for part in parts] == [("own/train", (3, 5)), ("own/labelled2", (2,))]
    for part, mask in zip(parts, masks, strict=True):
        for z in part.labelled_zs:
            assert np.array_equal(part.native_label_at(z), mask[z])
    assert parts[1].image_at(0).shape == (20, 24)
    partition = make_partition(parts, data)
    assert partition.labelled == (("own/train", 3), ("own/train", 5), ("own/labelled2", 2))
    for fields, said in (
        ({"label": paths["label"].split(",")[0]}, "names 2 volumes, but data.label 1"),
        ({"labelled_slices": "1;2;3"}, "one for each volume of data.image .2.*semicolons"),
        ({"voxel_nm": "30,8,8;5"}, "data.voxel_nm=5 is not understood"),
    ):
        with pytest.raises(InputError, match=said):
            load_dataset(config("own", "all", **{**paths, **fields}))


def test_a_comma_in_a_path_that_exists_separates_nothing(tmp_path):
    write_two(tmp_path / "mouse 1, left")
    paths = {key: str(tmp_path / "mouse 1, left" / f"{key}0.tif") for key in ("image", "label")}
    assert len(load_dataset(config("own", "all", **paths)).train) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Blocks in z
# ---------------------------------------------------------------------------------------------------------------------


@given(zs=st.sets(st.integers(0, 59), min_size=1))
def test_a_validation_block_costs_less_than_half_of_the_labels(tmp_path_factory, zs):
    folder = tmp_path_factory.mktemp("own")
    image, mask = volume(60, shape=(8, 8))
    np.save(folder / "image.npy", image)
    np.save(folder / "label.npy", mask[sorted(zs)].astype(np.uint8))
    listed = ",".join(map(str, sorted(zs)))
    dataset = load_dataset(
        config("own", image=str(folder / "image.npy"), label=str(folder / "label.npy"), labelled_slices=listed)
    )
    train = dataset.train[0]
    if not dataset.validation:
        assert train.labelled_zs == tuple(sorted(zs)) and len(train.zs) == 60
        return
    validation = dataset.validation[0]
    assert len(zs) >= 8
    assert len(train.labelled_zs) >= len(zs) / 2
    assert len(validation.labelled_zs) == len(zs) // 5
    assert all(abs(a - b) > GAP for a in train.zs for b in validation.zs)
    assert validation.zs == tuple(range(validation.zs[0], validation.zs[-1] + 1))


def test_few_labels_all_train(own, capsys):
    dataset = load_dataset(own({f"{z}.png": MASK[z] for z in range(0, 21, 3)}))
    assert dataset.validation == () and len(dataset.train[0].labelled_zs) == 7
    assert "no validation slices" in capsys.readouterr().out


def test_regions_of_the_config(own):
    both = load_dataset(own(MASK, train_region="0:10", validation_region="12:20"))
    assert (zs_of(both.train[0]), zs_of(both.validation[0])) == ((0, 10), (12, 20))
    one = load_dataset(own(MASK, validation_region="10:14"))
    assert one.train[0].zs == (*range(10 - GAP), *range(14 + GAP, 24))
    assert load_dataset(own(MASK, train_region="2:20")).validation == ()
    assert load_dataset(own(MASK, validation_region="none")).validation == ()


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"train_region": "0:14", "validation_region": "13:20"}, "overlaps the validation slices 13:20"),
        ({"train_region": "0:30"}, "inside 0:24"),
        ({"train_region": "9:9"}, "inside 0:24"),
        ({"validation_region": "20:12"}, "inside 0:24"),
        ({"validation_region": "20"}, "data.validation_region is .20.: z is .20., expected a range inside 0:24"),
        ({"validation_region": "20:22,0:9"}, "expected slices, z0:z1, or a box, z0:z1,y0:y1,x0:x1"),
        ({"validation_region": "20:22,,0:49"}, "x is .*inside 0:48"),
        ({"train_region": "0:14,,9:20", "validation_region": "13:20,,0:10"}, "overlaps the validation slices 13:20"),
        ({"validation_region": "0:24,,0:10"}, "leaves no slice for training.*set data.train_region"),
        ({"train_region": "-3:5"}, "data.train_region is '-3:5': z is '-3:5'"),
        ({"validation_region": "2:22"}, "leaves no slice for training"),
        ({"validation_region": "3:5", "labelled_slices": "9,12"}, "holds no labelled slice"),
    ],
)
def test_bad_regions(own, fields, said):
    with pytest.raises(InputError, match=said):
        load_dataset(own(MASK, **fields))


# ---------------------------------------------------------------------------------------------------------------------
# Test volumes and pixel sizes
# ---------------------------------------------------------------------------------------------------------------------


def test_a_test_volume_of_another_microscope_comes_to_the_training_pixel_size(own, tmp_path):
    fields = write_test_volume(tmp_path)
    dataset = load_dataset(own(MASK, voxel_nm="30,8,10", test_voxel_nm="50,4,5", **fields))
    (test,) = dataset.test
    assert (test.name, test.pixel_nm, test.shape_at_training) == ("own/test", (8.0, 10.0), (40, 48))
    assert test.labelled_zs == (0, 1, 2, 3, 4)  # an empty slice of a test volume is a result, not a gap
    assert test.image_at(2).shape == test.label_at(2).shape == (40, 48)
    assert test.native_label_at(2).shape == (80, 96)
    assert test.label_at(2).mean() == pytest.approx(test.native_label_at(2).mean(), abs=0.02)


def test_a_test_volume_needs_its_labels(own, tmp_path):
    fields = write_test_volume(tmp_path)
    for key in fields:
        with pytest.raises(InputError, match=f"data.{key} is empty"):
            load_dataset(own(MASK, **{**fields, key: ""}))
    write_slices(tmp_path / "some", MASK[:1, :1], ["3.png"])
    with pytest.raises(InputError, match="1 x 48.*80 x 96"):
        load_dataset(own(MASK, **{**fields, "test_label": str(tmp_path / "some")}))


def test_a_test_volume_with_labels_on_some_slices(own, tmp_path):
    fields = write_test_volume(tmp_path)
    write_slices(tmp_path / "some", np.eye(80, 96, dtype=np.uint8)[None].repeat(2, 0), ["t1.png", "t3.png"])
    dataset = load_dataset(own(MASK, **{**fields, "test_label": str(tmp_path / "some")}))
    assert dataset.test[0].labelled_zs == (1, 3)
    tifffile.imwrite(tmp_path / "short.tif", np.ones((2, 80, 96), np.uint8))
    with pytest.raises(InputError, match="a folder with one file for each"):
        load_dataset(own(MASK, **{**fields, "test_label": str(tmp_path / "short.tif")}))


@pytest.mark.parametrize("pixel_nm, shape", [(0.0, (40, 48)), (16.0, (20, 24)), (4.0, (40, 48)), (80.0, (4, 5))])
def test_the_training_pixel_size_is_never_below_that_of_the_volume(own, pixel_nm, shape):
    part = load_dataset(own(MASK, voxel_nm="30,8,8", pixel_nm=pixel_nm)).train[0]
    assert part.shape_at_training == part.image_at(3).shape == part.label_at(3).shape == shape


def test_volumes_of_larger_pixels_are_resampled_too_where_wanted(own):
    part = load_dataset(own(MASK, voxel_nm="30,8,8", pixel_nm=4.0, upsample=True)).train[0]
    assert part.pixel_nm == (4.0, 4.0)
    assert part.image_at(3).shape == part.label_at(3).shape == (80, 96)
    part = load_dataset(own(MASK, voxel_nm="30,8,8", pixel_nm=0.0, upsample=True)).train[0]
    assert part.pixel_nm == (8.0, 8.0)


def test_unknown_voxel_sizes(own):
    for pixel_nm in (0.0, 20.0):
        part = load_dataset(own(MASK, pixel_nm=pixel_nm)).train[0]
        assert part.pixel_nm is None and part.image_at(0).shape == (40, 48)
    part = load_dataset(own(MASK, voxel_nm="?, 10,10", pixel_nm=20.0)).train[0]
    assert str(part.image.voxel_nm) == "(nan, 10.0, 10.0)" and part.shape_at_training == (20, 24)
    with pytest.raises(InputError, match=r"data.voxel_nm=5,\?,5 is not understood.*\?,8,8 where z is unknown"):
        load_dataset(own(MASK, voxel_nm="5,?,5"))


def test_16_bit_images_come_as_8_bit_whatever_their_range(own, tmp_path):
    path = own(MASK).image
    image = 30000 + 10 * tifffile.imread(path).astype(np.uint16)
    image[0, 0, 0] = 65535
    tifffile.imwrite(path, image)
    part = load_dataset(config("own", "all", image=path, label=str(tmp_path / "label.tif"))).train[0]
    assert 30000 <= part.range[0] < part.range[1] < 33000
    assert part.image_at(3).dtype == np.uint8 and np.ptp(part.image_at(3)) > 200


@pytest.fixture
def pyramids(tmp_path):
    """Image and labels of three levels: 5, 10 and 20 nm."""
    image, mask = volume(6, (300, 280))
    for name, array, reduction in (("em", image, "mean"), ("labels", mask.astype(np.uint8), "majority")):
        with open_writer(tmp_path / f"{name}.zarr", array.shape, np.uint8, (30.0, 5.0, 5.0), reduction=reduction) as w:
            for z, section in enumerate(array):
                w.write(z, section)
    return tmp_path


def test_training_reads_the_coarsest_level_that_is_fine_enough(pyramids, capsys):
    fields = {"image": str(pyramids / "em.zarr"), "label": str(pyramids / "labels.zarr"), "pixel_nm": 10.0}
    boxes = ",".join(f"{pyramids / 'em.zarr'}[{box}]" for box in ("0:3,,", "3:5,100:200,0:280"))
    data = config("own", "all", unlabelled=boxes, **fields)
    parts = load_dataset(data).train
    assert [part.image.shape for part in parts] == [(6, 150, 140), (3, 150, 140), (2, 50, 140)]
    assert all(part.image.voxel_nm == (30.0, 10.0, 10.0) for part in parts) and parts[0].label.shape == (6, 150, 140)
    assert "Level 1 of 0 to 1 is read: the coarsest whose pixels" in capsys.readouterr().out
    data.level = "0"
    assert [part.image.shape[1] for part in load_dataset(data).train] == [300, 300, 100]
    data.update({"level": "auto", "labelled_slices": "2,4"})  # counted in level 0
    assert [part.image.shape[1] for part in load_dataset(data).train] == [300, 150, 50]


def test_labels_without_levels_keep_the_image_at_level_0(pyramids):
    label = open_volume(pyramids / "labels.zarr", verbose=False)[:]
    tifffile.imwrite(pyramids / "labels.tif", label, photometric="minisblack")
    data = config("own", "all", image=str(pyramids / "em.zarr"), label=str(pyramids / "labels.tif"), pixel_nm=10.0)
    assert load_dataset(data).train[0].image.shape == (6, 300, 280)


def test_labels_of_a_box_of_a_large_store(pyramids):
    label = open_volume(f"{pyramids / 'labels.zarr'}[1:5,40:200,30:230]", verbose=False)[:]
    tifffile.imwrite(pyramids / "box.tif", label, photometric="minisblack")
    data = config("own", "all", image=f"{pyramids / 'em.zarr'}[1:5,40:200,30:230]", label=str(pyramids / "box.tif"))
    part = load_dataset(data).train[0]
    whole = open_volume(pyramids / "em.zarr", verbose=False)
    np.testing.assert_array_equal(part.image[2], whole[3, 40:200, 30:230])
    assert part.shape_at_training == (160, 200) and len(part.labelled_zs) == 4


def test_an_empty_volume_without_labels_is_refused(own, tmp_path):
    tifffile.imwrite(tmp_path / "empty.tif", np.zeros((5, 40, 48), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match="empty.tif holds nothing but 0 in the places looked at"):
        load_dataset(own(MASK, unlabelled=str(tmp_path / "empty.tif")))
