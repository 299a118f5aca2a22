"""Reads pictures back: their pixels, and where a colour lies."""

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

GREY = 100  # of the slices that the tests draw


def read(path):
    """`y x c` uint8."""
    with Image.open(path) as image:
        assert image.format == "PNG" and 400 <= image.width <= 2000 and 100 <= image.height <= 2500
        return np.asarray(image.convert("RGB"))


def bounds(pixels):
    """First and last row and column, (top, bottom, left, right), where `pixels` is true."""
    ys, xs = np.nonzero(pixels)
    return np.array([ys.min(), ys.max(), xs.min(), xs.max()])


def where(pixels, color, tolerance=40):
    rgb = np.multiply(to_rgb(color), 255)
    return (np.abs(pixels - rgb) < tolerance).all(-1)


def slice_area(pixels):
    """Bounds of an evenly grey slice: the legend below it has no long grey rows."""
    grey = (pixels == GREY).all(-1)
    return bounds(grey & (grey.mean(1, keepdims=True) > 0.1) & (grey.mean(0, keepdims=True) > 0.1))
