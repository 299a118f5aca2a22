import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pixels import GREY, bounds, read, slice_area, where

from dualrel_jax.visualization.canvas import PREDICTED, TRUE
from dualrel_jax.visualization.overlays import mask_outlines, mask_sheet

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
    mask_outlines(np.full((64, 64), GREY, np.uint8), square(), None, picture, "z = 3 of own_$1_$.tif")
    pixels = read(picture)
    assert where(pixels, PREDICTED).any() and not where(pixels, TRUE, 15).any()


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (50, 60), (8, 300), (300, 8)])
def test_empty_and_full_masks_of_any_shape(picture, shape, fill):
    label = np.full(shape, 255 if fill else 0, np.uint8)
    mask_outlines(
        np.full(shape, GREY, np.uint8), np.full(shape, fill), label, picture, "empty or full", pixel_nm=(4.6, 4.6)
    )
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
    mask_outlines(image, np.roll(true, 4, axis=1), true, picture, "VNC, slice 0", pixel_nm=4.6)
    pixels = read(picture)
    assert where(pixels, TRUE).sum() > 2000 and where(pixels, PREDICTED).sum() > 2000
