import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from dualrel_jax.visualization.overlays import (
    BACKGROUND,
    FOREGROUND,
    PREDICTED,
    TRUE,
    activation_maps,
    curves,
    mask_outlines,
    mask_sheet,
)

GREY = 100
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def picture(tmp_path):
    return tmp_path / "pictures" / "picture.png"


def read(path):
    """`y x c` uint8."""
    with Image.open(path) as image:
        assert image.format == "PNG" and 400 <= image.width <= 2000 and 100 <= image.height <= 2500
        return np.asarray(image.convert("RGB"))


def bounds(pixels):
    """First and last row and column, (top, bottom, left, right), where `pixels` is true."""
    ys, xs = np.nonzero(pixels)
    return np.array([ys.min(), ys.max(), xs.min(), xs.max()])


def where(picture, color, tolerance=40):
    rgb = np.multiply(to_rgb(color), 255)
    return (np.abs(picture - rgb) < tolerance).all(-1)


def slice_area(picture):
    """Bounds of an evenly grey slice: the legend below it has no long grey rows."""
    grey = (picture == GREY).all(-1)
    return bounds(grey & (grey.mean(1, keepdims=True) > 0.1) & (grey.mean(0, keepdims=True) > 0.1))


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
    mask_outlines(np.full(shape, GREY, np.uint8), np.full(shape, fill), label, picture, "empty or full", (4.6, 4.6))
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


def test_prototypes_are_grouped_and_sorted(picture):
    """Each map has a bright band at its own height; the picture must show the bands in the order of reliability."""
    maps = np.zeros((5, 20, 20), np.float32)
    for k in range(5):
        maps[k, 4 * k : 4 * k + 2] = 1
    is_foreground, reliability = np.array([0, 1, 1, 0, 1], bool), np.array([0.5, 0.1, 2.0, 1.5, 0.9])
    activation_maps(np.full((40, 40), GREY, np.uint8), maps, is_foreground, reliability, picture)
    pixels = read(picture)
    order, tops = [], []
    for color in (FOREGROUND, BACKGROUND):
        frame = where(pixels, color, 4)
        rows = np.flatnonzero(frame.mean(1) > 0.2)
        top, bottom = rows.min(), rows.max()
        tops.append(top)
        columns = np.flatnonzero(frame[top:bottom].mean(0) > 0.9)
        edges = columns[np.r_[True, np.diff(columns) > 1]]
        for left, right in zip(edges[::2], edges[1::2], strict=True):
            inside = pixels[top + 6 : bottom - 5, left + 6 : right - 2].astype(int)
            heat = np.abs(inside - GREY).sum(-1).mean(1)
            order.append(round((heat @ np.arange(len(heat)) / heat.sum() / len(heat) * 20 - 0.5) / 4))
    assert order == [2, 4, 1, 3, 0] and tops[0] < tops[1]


@pytest.mark.parametrize("is_foreground", [[True], [False], [True] * 3, [True, False] * 9])
def test_prototype_pictures_of_any_number(picture, is_foreground):
    maps = np.random.default_rng(0).random((len(is_foreground), 12, 16), np.float32)
    maps[0] = 0.5  # an even map has no heat, and no division by zero
    activation_maps(np.full((24, 32), GREY, np.uint8), maps, is_foreground, None, picture)
    pixels = read(picture)
    assert where(pixels, FOREGROUND, 4).any() == any(is_foreground)
    assert where(pixels, BACKGROUND, 4).any() == (not all(is_foreground))


def run_records():
    for step in range(20, 401, 20):
        yield {
            "step": step,
            "train/loss": 2.0**-step,
            "train/loss_supervised": 0.5,
            "train/consistency_weight": step / 400,
        }
        if step % 100 == 0:
            yield {
                "step": step,
                "validation/jac_pooled": step / 500,
                "validation/slices": 32,
                "validation/dsc_pooled": None,
            }


def test_curves_from_file_and_records_agree(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text("\n".join(map(json.dumps, run_records())) + '\n{"step": 420, "train/lo')  # killed while writing
    from_file, from_records = curves(file, tmp_path / "file.png"), curves(run_records(), tmp_path / "records.png")
    assert (read(from_file) == read(from_records)).all()


def test_a_repeated_step_counts_once(tmp_path):
    records = list(run_records())
    wrong = [{"step": 40, "train/loss": 1e6, "train/consistency_weight": float("nan")}, {"step": 60, "train/loss": 1e6}]
    plain = read(curves(records, tmp_path / "plain.png"))
    assert (read(curves(wrong + records, tmp_path / "continued.png")) == plain).all()
    assert (read(curves(records + wrong, tmp_path / "other.png")) != plain).any()


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"step": 20, "train/loss": 0.0}],
        [{"step": 20, "train/loss": float("nan")}],
        [{"step": 250, "validation/jac_pooled": 0.5}],
        [{"step": 20, "train/learning_rate": 1e-3}, {"step": 20, "seconds": 3}],
        [{"step": step, "train/loss": -1.0 + step % 7, "note": "text"} for step in range(500)],
    ],
)
def test_curves_of_little_or_odd_data(picture, records):
    assert (read(curves(records, picture)) < 128).any()


def test_import_leaves_matplotlib_alone():
    code = "import sys, dualrel_jax.visualization.overlays; sys.exit('matplotlib' in sys.modules)"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_real_slice(picture):
    folder = Path(os.environ.get("DUALREL_DATA") or "no real data") / "vnc" / "stack1"
    if not folder.is_dir():
        pytest.skip("no real data")
    with Image.open(folder / "raw" / "00.tif") as image, Image.open(folder / "mitochondria" / "00.png") as label:
        image, label = np.asarray(image), np.asarray(label)
    true = (label > 0).astype(np.uint8)
    mask_outlines(image, np.roll(true, 4, axis=1), true, picture, "VNC, slice 0", 4.6)
    pixels = read(picture)
    assert where(pixels, TRUE).sum() > 2000 and where(pixels, PREDICTED).sum() > 2000
