import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from dualrel_jax.visualization import border_analysis, paper_figures


def read(path):
    """`y x c` uint8, of a PNG that lies beside a PDF."""
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    with Image.open(path) as image:
        assert 300 <= min(image.size) and max(image.size) <= 3000
        return np.asarray(image.convert("RGB"))


def close_to(pixels, rgb):
    return (np.abs(pixels - np.multiply(rgb, 255)) < 6).all(-1)


def test_outcomes_have_the_colours_of_the_legend(tmp_path):
    image = np.zeros((40, 40), np.uint8)
    label, mask = np.zeros((40, 40), np.uint8), np.zeros((40, 40), bool)
    label[:, 20:], mask[10:], label[30:] = 1, True, 255
    paper_figures.mask_figure([(image, label, {"run": mask}, "z = 0")], tmp_path / "masks", (10.0, 10.0))
    pixels = read(tmp_path / "masks.png").astype(float)
    areas = [close_to(pixels, np.multiply(to_rgb(color), 0.6)).sum() for color in paper_figures.OUTCOMES.values()]
    assert areas[0] == pytest.approx(areas[1], rel=0.1)  # 400 pixels of the slice each, and 200 false negatives
    assert areas[2] == pytest.approx(areas[0] / 2, rel=0.1)


def test_confusion_is_brightest_where_it_is_largest(tmp_path):
    image, label = np.full((40, 40), 100, np.uint8), np.zeros((40, 40), np.uint8)
    label[10:30, 10:30] = 1
    probability = np.where(np.arange(40) < 20, 1.0 - label, label)  # wrong in the left half
    counts = [border_analysis.confusion_counts(probability, label, (1.0, 1.0))]
    numbers = {
        "runs": {"run": {"confusion": border_analysis.confusion_summary(counts)}},
        "pixel": (1.0, 1.0),
        "unit": "pixels",
    }
    maps = {"run": border_analysis.confusion(probability, label)}
    paper_figures.confusion_figure(image, label, maps, numbers, tmp_path / "confusion", title="z = 0")
    pixels = read(tmp_path / "confusion.png").astype(int)
    bright = (pixels[..., 0] - pixels[..., 2] > 60) & (pixels[..., 1] > 150)
    rows = np.flatnonzero(bright.sum(1) > 100)
    columns = np.flatnonzero(bright[rows].mean(0) > 0.8)
    assert len(rows) == pytest.approx(2 * len(columns), rel=0.1)  # the left half of a square slice
