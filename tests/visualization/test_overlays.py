import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pixels import GREY, bounds, read, slice_area, where

from dualrel_jax.visualization.canvas import PREDICTED, TRUE
from dualrel_jax.visualization.overlays import (
    HeatPanel,
    heat_sheet,
    instance_colours,
    instance_sheet,
    mask_outlines,
    mask_sheet,
)

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def picture(tmp_path):
    return tmp_path / "pictures" / "picture.png"


def square(size=64, top=16, bottom=48, left=8, right=40, value=True):
    mask = np.zeros((size, size), type(value))
    mask[top:bottom, left:right] = value
    return mask


def test_outlines_lie_on_the_borders(picture):
    image = np.full((64, 64), GREY, np.uint8)
    label = square(top=24, bottom=56, left=16, right=60, value=np.uint8(1))
    assert mask_outlines(image, square(), label, picture) == picture
    pixels = read(picture)
    top, bottom, left, right = slice_area(pixels)
    zoom = (bottom - top + 1) / 64
    origin = np.array([top, top, left, left])
    legend = np.arange(len(pixels))[:, None] > bottom
    for color, expected in ((PREDICTED, (16, 48, 8, 40)), (TRUE, (24, 56, 16, 60))):
        found = (bounds(where(pixels, color) & ~legend) - origin) / zoom
        np.testing.assert_allclose(found, expected, atol=4 / zoom + 0.1)  # half a line's width
        assert (where(pixels, color) & legend).any()
    assert zoom > 10  # a small slice is enlarged
    middle = top + round(20 * zoom), left + round(8 * zoom)
    window = pixels[middle[0], middle[1] - 4 : middle[1] + 5]
    assert where(window[None], PREDICTED).any()
    assert not where(
        pixels[middle[0], middle[1] + 20 : middle[1] + 60][None], PREDICTED
    ).any()  # an outline, not a fill


def test_agreeing_outlines_are_both_seen(picture):
    mask_outlines(np.full((64, 64), GREY, np.uint8), square(), square(value=np.uint8(1)), picture)
    pixels = read(picture)
    _, bottom, _, _ = slice_area(pixels)
    for color in (PREDICTED, TRUE):
        assert where(pixels[: bottom + 1], color, 30).sum() > 500


def test_prediction_alone(picture):
    """Without labels nothing is drawn in the colour of truth."""
    mask_sheet([(np.full((64, 64), GREY, np.uint8), square(), None, "z = 3 of own_$1_$.tif")], picture)
    pixels = read(picture)
    assert where(pixels, PREDICTED).any() and not where(pixels, TRUE, 15).any()


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (50, 60), (8, 300), (300, 8)])
def test_empty_and_full_masks_of_any_shape(picture, shape, fill):
    label = np.full(shape, 255 if fill else 0, np.uint8)
    mask_outlines(np.full(shape, GREY, np.uint8), np.full(shape, fill), label, picture, pixel_nm=(4.6, 4.6))
    pixels = read(picture)
    legend_only = where(pixels, PREDICTED)
    assert legend_only.any() and bounds(legend_only)[0] > len(pixels) - 40


def test_ignored_pixels_are_veiled(picture):
    label = np.zeros((64, 64), np.uint8)
    label[:, 32:] = 255  # no truth is drawn around them
    mask_outlines(np.full((64, 64), GREY, np.uint8), square() & False, label, picture)
    pixels = read(picture)
    top, bottom, left, right = slice_area(pixels)
    row = pixels[(top + bottom) // 2].astype(int)
    assert not where(pixels[top:bottom], TRUE).any()
    assert (row[left + 5] == GREY).all() and (row[right + 50] > GREY + 40).all()


def test_labels_are_tinted_inside_where_asked(picture):
    image, label = np.full((64, 64), GREY, np.uint8), square(value=np.uint8(1))
    for fill in (False, True):
        pixels = read(mask_sheet([(image, None, label, "")], picture, fill=fill)).astype(int)
        top, bottom, left, right = slice_area(pixels)
        inside = pixels[(top + bottom) // 2, left + (right - left) * 24 // 64]
        beside = pixels[(top + bottom) // 2, right - 20]
        assert (beside == GREY).all() and (inside[2] - inside[0] > 30) == fill


@pytest.mark.parametrize(
    ("pixel_nm", "fraction"),
    [(5.0, 50 / 320), ((9.0, 5.0), 50 / 320), (1000.0, 10 / 64), (np.nextafter(62.5, 0), 1 / 8)],
)
def test_scale_bar_is_as_long_as_it_says(picture, pixel_nm, fraction):
    image = np.full((32, 64), GREY, np.uint8)
    mask_outlines(image, np.zeros_like(image), None, picture, pixel_nm=pixel_nm)
    pixels = read(picture)
    top, bottom, left, right = slice_area(pixels)
    white = (pixels[top : bottom + 1, left : right + 1] > 250).all(-1)
    longest_row = white.sum(1).max()
    assert longest_row / (right - left + 1) == pytest.approx(fraction, abs=0.01)


def test_sheets_hold_every_slice(tmp_path):
    random = np.random.default_rng(0)
    wide = (random.integers(0, 256, (40, 60), np.uint8), random.random((40, 60)) > 0.9, None, "wide")
    tall = (random.integers(0, 256, (70, 30), np.uint8), np.zeros((70, 30), bool), np.zeros((70, 30), np.uint8), "tall")
    areas = []
    for n in (2, 5, 13):
        pixels = read(mask_sheet([wide, tall, *[wide] * 11][:n], tmp_path / f"{n}.png", 5))
        areas.append((pixels != 255).any(-1).sum())
    assert min(areas) > 50_000
    with pytest.raises(ValueError, match="at least one slice"):
        mask_sheet([], tmp_path / "none.png")


def test_real_slice(picture):
    folder = Path(os.environ.get("DUALREL_DATA") or "no real data") / "vnc" / "stack1"
    if not folder.is_dir():
        pytest.skip("no real data")
    with Image.open(folder / "raw" / "00.tif") as image, Image.open(folder / "mitochondria" / "00.png") as label:
        image, label = np.asarray(image), np.asarray(label)
    true = (label > 0).astype(np.uint8)
    mask_outlines(image, np.roll(true, 4, axis=1), true, picture, pixel_nm=4.6)
    pixels = read(picture)
    assert where(pixels, TRUE).sum() > 2000 and where(pixels, PREDICTED).sum() > 2000


def test_colours_are_stable_and_differ():
    rgb = instance_colours(50)
    assert (rgb[:21] == instance_colours(20)).all()
    far = np.abs(rgb[1:, None] - rgb[None, 1:]).max(-1) + np.eye(50)
    assert far.min() > 0.02 and np.abs(np.diff(rgb[1:], axis=0)).max(-1).min() > 0.3


def test_instances_have_their_colours_and_the_scale_bar_its_place(tmp_path):
    """A number under the scale bar would be read as part of its length."""
    image, labels = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint16)
    labels[5:15, 5:15], labels[20:30, 5:15] = 1, 2
    pixels = read(instance_sheet([(image, labels, "z = 0")] * 2, (30.0, 10.0, 10.0), tmp_path / "a.png"))
    for rgb in instance_colours(2)[1:]:
        assert (np.abs(pixels - 0.5 * 255 * rgb) < 4).all(-1).sum() > 1000
    labels[35:39, 48:58] = 3
    blank = labels * (labels < 3)
    with_bar, without = (
        read(instance_sheet([(image, values, "z = 0")], (30.0, 10.0, 10.0), tmp_path / f"{name}.png")).min(-1) > 250
        for name, values in (("with", labels), ("without", blank))
    )
    assert (with_bar == without).all()  # white: the text and the numbers 1 and 2


def test_heat_has_one_scale_for_all_slices_and_boxes_a_frame(picture):
    image, values = np.full((40, 60), GREY, np.uint8), np.zeros((20, 30))
    values[5:10, 5:10] = 0.2
    box = (30.0, 10.0, 20.0, 20.0)
    heat_sheet([HeatPanel(image, values, "1. low"), HeatPanel(image, 5 * values, "2. high", box)], "bits", picture)
    pixels = read(picture)
    width, height = 430, 287  # of a panel, from (14, 24) and from (458, 24)
    low, high = (pixels[24 + height * 3 // 8, left + width // 4].astype(int) for left in (14, 458))
    assert high[0] > 190 and np.abs(low - GREY).max() < 30 and (low != GREY).any()
    assert not where(pixels[:, :440], TRUE, 25).any() and where(pixels[:, 460:], TRUE, 25).sum() > 300
