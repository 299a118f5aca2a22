"""Draws one section of grown tissue at the size of the image: its absorbance and the exact mask of mitochondria."""

from functools import lru_cache

import numpy as np
from scipy import ndimage, sparse

from dualrel_jax.data.phantom.geometry import GRID_NM, PAD
from dualrel_jax.data.phantom.tissue import Block

EDGE_NM = 12.0  # how far the smooth edge of an organelle reaches
_GRAZED_NM = 15.0  # a tip that goes less deep only grazes the section


class Artist:
    """Draws sections of `block` with `shape` (y, x) pixels of `pixel_nm`, in any order."""

    def __init__(self, block: Block, shape: tuple[int, int], pixel_nm: tuple[float, float]):
        self.block, self.shape, self.pixel_nm = block, shape, pixel_nm
        at_nm = [((np.arange(n) + 0.5) * p).astype(np.float32) for n, p in zip(shape, pixel_nm, strict=True)]
        self.at_nm, node = at_nm, [a / GRID_NM + PAD for a in at_nm]
        self.spline = [_spline_weights(a, n) for a, n in zip(node, block.cells.shape[2:], strict=True)]
        self.nearest = np.ix_(*(np.rint(a).astype(int) for a in node))
        self.vesicle_section = np.rint(block.vesicles_nm[:, 0] / block.thickness_nm).astype(int)
        self._cells = lru_cache(maxsize=3)(self._cells)  # the sections on either side ask for it again

    def draw(self, z: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Absorbance (y, x) float32 of about 0..1 and mask (y, x) bool of section `z`; `rng` draws the fine grain."""
        block, tissue, cell = self.block, self.block.tissue, self._cells(z)
        mito, body, axon, synapse = self._enlarge(block.signed_nm[:, z + 1])
        _drop_grazed(mito)
        reticulum, slow, course, gaps = self._enlarge(block.noise[:, z + 1])
        grain = ndimage.gaussian_filter(rng.standard_normal(self.shape, dtype=np.float32), 1.1) * 3.9
        clumps = ndimage.gaussian_filter(grain, 1.5) * 2.1
        wall = _outline(cell)

        ink = block.cytoplasm.astype(np.float32)[cell] + 0.03 * slow
        ink += tissue.granularity * (0.6 * grain + 1.4 * np.maximum(clumps - 0.8, 0))
        # The rim of rare bulges of a noise field: flat pouches of membrane.
        ink += 0.4 * np.exp(-(((reticulum - 1.8) / 0.22) ** 2)) * (np.minimum(mito, body) > 25)
        self._draw_vesicles(ink, z, cell)
        self._draw_walls(ink, z, cell, wall, synapse)
        layers = 0.70 + 0.26 * np.cos(2 * np.pi * axon / tissue.lamella_nm + 1.5 * slow)
        np.copyto(ink, layers, where=(axon > 0) & (axon < tissue.sheath_nm))
        self._draw_bodies(ink, z, body, clumps)
        self._draw_mitochondria(ink, z, mito, course=course, gaps=gaps, grain=grain)
        return ink, mito < 0

    def _cells(self, z: int) -> np.ndarray:
        return self._enlarge(self.block.cells[:, z + 1]).argmax(0)

    def _enlarge(self, fields: np.ndarray) -> np.ndarray:
        """Fields (c, y, x) on the grid at the size of the image, by cubic splines."""
        (along_y, along_x), (height, width), (c, _, nodes) = self.spline, self.shape, fields.shape
        wide = (along_x @ fields.T.reshape(nodes, -1)).reshape(width, -1, c)
        full = along_y @ wide.transpose(1, 2, 0).reshape(-1, c * width)
        return full.reshape(height, c, width).swapaxes(0, 1)

    def _draw_vesicles(self, ink: np.ndarray, z: int, cell: np.ndarray) -> None:
        here = self.vesicle_section == z
        dy, dx = np.mgrid[-4:5, -4:5]
        r = np.hypot(dy * self.pixel_nm[0], dx * self.pixel_nm[1])
        ring = (0.55 * np.exp(-(((r - 21) / 8) ** 2)) - 0.12 * (r < 12)).astype(np.float32)
        centre = (self.block.vesicles_nm[here, 1:] / self.pixel_nm).astype(int)
        fits = np.all((centre >= 4) & (centre < np.array(self.shape) - 4), axis=1)
        y, x = (c[:, None, None] + d for c, d in zip(centre[fits].T, (dy, dx), strict=True))
        whole = (cell[y, x] == self.block.vesicle_cell[here][fits][:, None, None]).all((1, 2))
        for patch in zip(y[whole], x[whole], strict=True):
            ink[patch] += ring * (1 - ink[patch])

    def _draw_walls(self, ink: np.ndarray, z: int, cell: np.ndarray, wall: np.ndarray, synapse: np.ndarray) -> None:
        """Cell membranes, grey where they slant through the section; dense and thick at synapses."""
        slant = sum((self._cells(z + dz) != cell).astype(np.float32) for dz in (-1, 1))
        cover = 2.5 * ndimage.gaussian_filter(wall, 1.1) + 0.22 * ndimage.gaussian_filter(slant, 1.2)
        _paint(ink, ..., self.block.tissue.membrane, np.minimum(cover, 1))
        receiver = self.block.receiver[self.block.owner[2, z + 1][self.nearest]]
        near = np.exp(-np.maximum(synapse, 0) / 25) * (synapse < 60) * np.where(cell == receiver, 1, 0.3)
        _paint(ink, ..., 0.95, np.minimum(6 * ndimage.gaussian_filter(wall, 2.2) * near, 1))

    def _draw_bodies(self, ink: np.ndarray, z: int, body: np.ndarray, clumps: np.ndarray) -> None:
        at = np.nonzero(body < EDGE_NM)
        owner, d = self.block.owner[1, z + 1][self.nearest][at], body[at]
        own = {name: values.astype(np.float32)[owner] for name, values in self.block.body.items()}
        level = own["level"] + own["clumps"] * clumps[at]
        level += own["rim"] * (0.92 - level) * _band(d + 7, 7)
        _paint(ink, at, level, _within(d))

    def _draw_mitochondria(self, ink: np.ndarray, z: int, mito: np.ndarray, *, course, gaps, grain) -> None:
        block, at = self.block, np.nonzero(mito < EDGE_NM)
        owner, d = block.owner[0, z + 1][self.nearest][at], mito[at]
        own = {name: values.astype(np.float32)[owner] for name, values in block.mito.items()}
        place = np.float32(z * block.thickness_nm), self.at_nm[0][at[0]], self.at_nm[1][at[1]]
        cycle = sum(n * p for n, p in zip(own["normal"].T, place, strict=True)) / own["spacing_nm"] + 0.55 * course[at]
        sheet = np.exp(3 * (np.cos(2 * np.pi * cycle) - 1)) * _within(own["gap"] - gaps[at], 0.25)
        # Through its thickness a section averages over lamellae that slant.
        sheet *= np.sinc(own["normal"][:, 0] * block.thickness_nm / own["spacing_nm"])
        # In a dark matrix the space within a crista is what is seen.
        contrast = np.where(own["matrix"] > 0.66, -1.1, 1) * own["contrast"]
        level = own["matrix"] + contrast * sheet * _within(d + 26) + 0.05 * grain[at]
        level += (0.92 - level) * _band(d + 7, 7)  # outer membrane
        level -= 0.22 * _band(d + 19, 5)  # the space between
        level += 0.7 * (0.92 - level) * _band(d + 30, 7)  # inner membrane
        _paint(ink, at, level, _within(d))


def _spline_weights(at: np.ndarray, nodes: int) -> sparse.csr_array:
    """(pixels, nodes) weights of the cubic B-spline: curves without facets. Sparse, so no BLAS: the same everywhere."""
    t = np.abs(at[:, None] - np.arange(nodes))
    weights = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6)
    return sparse.csr_array(weights.astype(np.float32))


def _drop_grazed(signed_nm: np.ndarray) -> None:
    """Takes out tips that only graze the section: specks that nobody could see, nor should be asked to find."""
    part, count = ndimage.label(signed_nm < EDGE_NM)
    shallow = np.append(False, ndimage.minimum(signed_nm, part, np.arange(1, count + 1)) > -_GRAZED_NM)
    signed_nm[shallow[part]] = EDGE_NM


def _outline(cell: np.ndarray) -> np.ndarray:
    line = np.zeros(cell.shape, np.float32)
    line[1:] = cell[1:] != cell[:-1]
    line[:, 1:] = np.maximum(line[:, 1:], cell[:, 1:] != cell[:, :-1])
    return line


def _within(distance_nm: np.ndarray, width: float = 5.0) -> np.ndarray:
    """1 inside (negative distance), 0 outside, smooth between."""
    return 0.5 - 0.5 * np.tanh(distance_nm / width)


def _band(distance_nm: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((distance_nm / width) ** 2))


def _paint(ink: np.ndarray, at, paint, cover: np.ndarray) -> None:
    ink[at] += (paint - ink[at]) * cover
