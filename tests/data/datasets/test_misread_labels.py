"""Labels that would be misread in silence are refused, or read as they are meant."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from tiny import volume, write_slices

from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference.mask_file_scoring import open_mask

MASK = volume(24)[1].astype(np.uint8)


def test_a_stack_that_trained_is_tested_on_its_labelled_slices_alone(own, capsys):
    some = np.zeros_like(MASK)
    some[[3, 8]] = MASK[[3, 8]]
    config = own(some)
    config.test_image, config.test_label = config.image, config.label
    (test,) = load_dataset(config).test
    assert test.labelled_zs == (3, 8)


@pytest.mark.parametrize(
    ("kind", "said"), [("grey", "no value above 127.*leave data.label_kind at binary"), ("instances", "no labelled")]
)
def test_labels_without_a_mitochondrion_train_nothing(own, kind, said):
    empty = {f"m{z}.png": (MASK[z] if kind == "grey" else 0 * MASK[z]).astype(np.uint8) for z in (5, 7)}
    with pytest.raises(InputError, match=said):
        load_dataset(own(empty, label_kind=kind))


@pytest.mark.parametrize("name", ["slice_0008_v2.png", "slice0002_8bit.png", "0007-mask-1.png"])
def test_several_numbers_in_the_name_of_the_one_label_are_not_guessed(own, name):
    with pytest.raises(InputError, match=f"{name} has several numbers.*data.labelled_slices"):
        load_dataset(own({name: MASK[7]}))
    assert load_dataset(own({name: MASK[7]}, labelled_slices="7")).train[0].labelled_zs == (7,)


def test_the_last_number_that_differs_counts_and_is_printed(own, capsys):
    part = load_dataset(own({f"r{z % 5}_{z:02d}.png": MASK[z] for z in (2, 9, 15)})).train[0]
    assert part.labelled_zs == (2, 9, 15)
    assert "of the numbers in the names of its files one counts, in r0_15.png 15." in capsys.readouterr().out


@pytest.mark.parametrize(
    "pattern",
    ["slice{0}_{1:03d}", "slice_{1:05d}_z=0.{1:04d}um", "a_{1:05d}-0400{0}", "run{0}_{1:03d}", "2048_01_{1:02d}"],
)
def test_masks_named_as_their_images_are_of_these(own, tmp_path, pattern):
    """Whatever numbers the names hold; some repeat."""
    names = [
        f"{pattern.format(1 + z // 6, z % 6 if '{0}' in pattern and pattern[-1] == 'd' else z)}.png" for z in range(12)
    ]
    write_slices(tmp_path / "slices", volume(12)[0], names)
    config = own({names[z]: MASK[z] for z in (1, 7)})
    config.image = str(tmp_path / "slices")
    (part,) = load_dataset(config).train
    assert part.labelled_zs == (1, 7)
    assert np.array_equal(part.native_label_at(7), MASK[7])


def test_the_file_of_a_single_mask_without_a_number_is_named_once(own, tmp_path):
    config = own({"mask.png": MASK[7]})
    with pytest.raises(InputError, match=f"^{tmp_path}/[^/]*/mask.png has no number in its name"):
        load_dataset(config)
    config.label = next(map(str, tmp_path.rglob("mask.png")))
    with pytest.raises(InputError, match=f"^{config.label} has no number in its name"):
        load_dataset(config)


def test_a_label_that_was_removed_after_a_training_is_named(own):
    (part,) = load_dataset(own({"m5.png": MASK[5], "m7.png": MASK[7]})).train
    with pytest.raises(InputError, match="Slice 6 of .* was trained with a label"):
        part.label_at(6)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([*range(7), *range(8, 11), 11, 12], "(7|8).png would be the label of"),
        (range(3, 15), "3.png would be the label of 00.png"),
        (range(1, 13), None),  # counted from 1
        (range(12), None),
    ],
)
def test_files_of_labels_go_by_their_numbers(own, tmp_path, masks, said):
    write_slices(tmp_path / "slices", volume(12)[0], [f"{z:02d}.png" for z in range(12)])
    config = own({f"{number}.png": MASK[z] for z, number in enumerate(masks)})
    config.image = str(tmp_path / "slices")
    whole = own(MASK[:12])
    whole.image = whole.test_image = config.image
    whole.test_label = config.label
    if said is None:
        assert len(load_dataset(config).train[0].rule.index) == 12
        (test,) = load_dataset(whole).test
        assert open_mask(config.label, [test]).shape == test.image.shape
        return
    with pytest.raises(InputError, match=f"{said}.*, or give data.labelled_slices"):
        load_dataset(config)
    for read in (lambda: load_dataset(whole).test, lambda: open_mask(config.label, load_dataset(whole).train)):
        with pytest.raises(InputError, match=said) as caught:
            read()
        assert str(caught.value).endswith("expected files with the same numbers: rename them.")


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ((0, 1, 255), "data.ignore_value=255 if 255 marks pixels that are not labelled"),
        ((0, 255, 128), "data.ignore_value=128 if 128 marks"),
        ((0, 1, 2), "data.ignore_value=0 if these are classes as in ilastik"),
        ((0, 5, 7), "data.ignore_value=7 if 7 marks"),
    ],
)
def test_the_first_advice_for_three_values_is_the_likely_one(own, values, advice):
    labels = np.array(values, np.uint8)[MASK.astype(int)]
    labels[:, 0, 0] = values[2]
    with pytest.raises(InputError, match=f"set {advice}"):
        load_dataset(own(labels))


def test_masks_of_different_foreground_are_named(own):
    masks = {"m5.png": MASK[5], "m7.png": 255 * MASK[7], "m9.png": MASK[9]}
    with pytest.raises(InputError) as error:
        load_dataset(own(masks))
    said = str(error.value)
    assert "by different values, 1 in m5.png and 1 more, 255 in m7.png; expected the same in all" in said
    assert "grey" not in said and "ignore_value" not in said
    part = load_dataset(own(masks, label_kind="instances")).train[0]
    for z in (5, 7, 9):
        assert np.array_equal(part.native_label_at(z), MASK[z])
    stack = np.where(np.arange(24)[:, None, None] == 11, 255 * MASK, MASK)
    with pytest.raises(InputError, match=", 255 in slice 11; expected"):
        load_dataset(own(stack))


def test_a_probability_is_neither_masks_nor_instances(own):
    field = ndimage.gaussian_filter(np.where(MASK > 0, 255.0, 0), (0, 3, 3))
    for labels, grey in ((field.astype(np.uint8), True), ((field / 255).astype(np.float32), False)):
        with pytest.raises(InputError) as error:
            load_dataset(own(labels))
        said = str(error.value)
        assert "as in a probability or a grey image" in said and "name the mask instead" in said
        assert ("label_kind=grey" in said) == grey and "instances" not in said


def test_instances_that_touch_are_no_probability(own):
    y, x = np.mgrid[: MASK.shape[1], : MASK.shape[2]]
    cells = (1 + y // 20 * 10 + x // 20).astype(np.uint8) + 40
    labels = np.where(y < 2, 0, cells) * np.ones_like(MASK)
    with pytest.raises(InputError, match="data.label_kind=instances if each value above 0 is a mitochondrion"):
        load_dataset(own(labels))


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("fields", [{}, {"ignore_value": 0}, {"label_kind": "instances"}], ids=str)
def test_masks_in_jpeg_are_refused_but_as_greys(own, tmp_path, high, fields):
    config = own({f"m{z}.png": MASK[z] for z in (5, 7)}, **fields)
    config.label = str(tmp_path / "jpeg")
    (tmp_path / "jpeg").mkdir()
    for z in (5, 7):
        Image.fromarray(MASK[z] * np.uint8(high)).save(tmp_path / "jpeg" / f"m{z}.jpg", quality=95)
    with pytest.raises(InputError, match=r"in one slice, and is JPEG, which changes.*again, as PNG") as error:
        load_dataset(config)
    assert ("or set data.label_kind=grey if 0 and 255" in str(error.value)) == (high == 255)
    if high == 255:
        config.label_kind, config.ignore_value = "grey", -1
        part = load_dataset(config).train[0]
        assert (part.native_label_at(7) == MASK[7]).mean() > 0.99


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1), (1, 0, 2)])
def test_labels_whose_axes_are_in_another_order_are_told_the_right_one(own, order):
    labels = MASK.transpose(np.argsort(order))
    config = own(np.ascontiguousarray(labels))
    with pytest.raises(InputError, match="has 24 x 40 x 48; expected axes in the same order") as error:
        load_dataset(config)
    stated = tuple(map(int, re.search(r"transpose\(([\d, ]+)\)", str(error.value))[1].split(",")))
    assert labels.transpose(stated).shape == MASK.shape and np.array_equal(labels.transpose(stated), MASK)


def test_nifti_of_an_array_z_y_x_is_told_that_it_stores_x_y_z(own):
    nibabel = pytest.importorskip("nibabel")
    config = own(MASK)
    config.label += ".nii.gz"
    nibabel.save(nibabel.Nifti1Image(MASK, np.eye(4)), config.label)
    with pytest.raises(InputError, match=r"NIfTI stores x, y, z.*array.transpose\(2, 1, 0\)"):
        load_dataset(config)


@pytest.mark.parametrize(
    ("of_image", "of_labels", "said"),
    [
        ((-1, -1, 1), (-1, -1, -1), "lead to LPI, but its image .* to LPS"),
        ((1, 1, 1), (-1, 1, 1), "lead to LAS, but its image .* to RAS"),
        ((-1, -1, 1), (-1, -1, 1), None),
        ((1, 1, 1), (-1, -1, 1), None),  # neither knows of an orientation
        (None, (-1, -1, -1), None),
    ],
)
def test_labels_of_another_orientation_than_their_image_are_refused(own, of_image, of_labels, said):
    nibabel = pytest.importorskip("nibabel")
    config = own(MASK)
    config.label = config.label.replace(".tif", ".nii")
    nibabel.save(nibabel.Nifti1Image(MASK.T, np.diag([*of_labels, 1])), config.label)
    if of_image:
        image = open_volume(config.image, verbose=False)[:]
        config.image = config.image.replace(".tif", ".nii")
        nibabel.save(nibabel.Nifti1Image(image.T, np.diag([*of_image, 1])), config.image)
    if said is None:
        assert np.array_equal(load_dataset(config).train[0].native_label_at(8), MASK[8])
    else:
        with pytest.raises(InputError, match=f"{said}.*save the labels in the orientation of the image"):
            load_dataset(config)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_labels_that_were_reoriented_are_refused(own, suffix):
    nibabel = pytest.importorskip("nibabel")
    config = own(MASK)
    itk = np.diag([-5, -5, 5, 1])  # with no orientation that is known
    array = open_volume(config.image, verbose=False)[:]
    config.image, config.label = (path.replace(".tif", suffix) for path in (config.image, config.label))
    nibabel.save(nibabel.Nifti1Image(array.T, itk), config.image)
    nibabel.save(nibabel.as_closest_canonical(nibabel.Nifti1Image(MASK.T, itk)), config.label)
    with pytest.raises(InputError, match="lead to RAS, but its image .* to LPS"):
        load_dataset(config)
