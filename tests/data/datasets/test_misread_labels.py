"""Labels that would be misread in silence are refused, or read as they are meant."""

import numpy as np
import pytest
from scipy import ndimage
from tiny import volume, write_slices

from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.errors import InputError

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


def test_a_label_that_was_removed_after_a_training_is_named(own):
    (part,) = load_dataset(own({"m5.png": MASK[5], "m7.png": MASK[7]})).train
    with pytest.raises(InputError, match="Slice 6 of .* was trained with a label"):
        part.label_at(6)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([*range(7), *range(8, 11), 11, 12], "7.png would be the label of|8.png would be the label of"),
        (range(3, 15), "3.png would be the label of 00.png"),
        (range(1, 13), None),  # counted from 1
        (range(12), None),
    ],
)
def test_files_of_labels_go_by_their_numbers(own, tmp_path, masks, said):
    write_slices(tmp_path / "slices", volume(12)[0], [f"{z:02d}.png" for z in range(12)])
    config = own({f"{number}.png": MASK[z] for z, number in enumerate(masks)})
    config.image = str(tmp_path / "slices")
    if said is None:
        assert len(load_dataset(config).train[0].rule.index) == 12
    else:
        with pytest.raises(InputError, match=said):
            load_dataset(config)


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
