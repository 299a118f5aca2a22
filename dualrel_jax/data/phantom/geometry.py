"""Shapes for the phantom: smooth noise, signed distances and winding tubes on a coarse grid.

Positions are (z, y, x) in nm from the top left corner of the image, in the middle of the first section. The grid has
one plane for each section and one more at either end; in the plane a node every `GRID_NM`, reaching past the edges.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

GRID_NM = 40.0
PAD = 2  # nodes outside each edge of the image: what a cubic spline needs
STEP_NM = 30.0  # between the spheres that make up a tube


class Grid:
    """The nodes that cover a volume of `shape` (z, y, x) voxels of `voxel_nm`."""

    def __init__(self, shape: tuple[int, int, int], voxel_nm: tuple[float, float, float]):
        self.size_nm = np.asarray(shape) * voxel_nm
        self.spacing_nm = np.array([voxel_nm[0], GRID_NM, GRID_NM])
        self.origin_nm = self.spacing_nm * (1, PAD, PAD)
        self.nodes = (shape[0] + 2, *(int(np.ceil(n / GRID_NM)) + 2 * PAD for n in self.size_nm[1:]))

    def nearest(self, points_nm: np.ndarray) -> tuple[np.ndarray, ...]:
        """Index of the node nearest to each of the points (..., 3); the outermost node for points beyond it."""
        node = np.rint((points_nm + self.origin_nm) / self.spacing_nm).astype(int)
        return tuple(np.moveaxis(np.clip(node, 0, np.array(self.nodes) - 1), -1, 0))

    def inside(self, points_nm: np.ndarray, margin_nm: float = 0.0) -> np.ndarray:
        """Which of the points (..., 3) lie in the volume widened by a margin."""
        return np.all((points_nm > -margin_nm) & (points_nm < self.size_nm + margin_nm), axis=-1)

    def noise(self, rng: np.random.Generator, length_nm) -> np.ndarray:
        """White noise blurred to unit variance, `z y x` float32; `length_nm` is sigma, one number or (z, y, x)."""
        sigma = np.broadcast_to(length_nm, 3) / self.spacing_nm
        # The Fourier transform joins opposite ends: the margin keeps them strangers.
        padded = [fft.next_fast_len(int(n + 3 * s), real=True) for n, s in zip(self.nodes, sigma, strict=True)]
        spectrum = fft.rfftn(rng.standard_normal(padded, dtype=np.float32))
        for axis, (n, s) in enumerate(zip(padded, sigma, strict=True)):
            frequency = fft.rfftfreq(n) if axis == 2 else fft.fftfreq(n)
            # Blurred white noise has variance 1 / (2 sqrt(pi) sigma) along each axis.
            gain = np.exp(-2 * (np.pi * s * frequency) ** 2) * np.sqrt(2 * np.sqrt(np.pi) * s)
            spectrum *= np.expand_dims(gain.astype(np.float32), tuple({0, 1, 2} - {axis}))
        z, y, x = self.nodes
        return np.ascontiguousarray(fft.irfftn(spectrum, padded)[:z, :y, :x])

    def signed_distance(self, tubes: "Tubes", reach_nm: float) -> tuple[np.ndarray, np.ndarray]:
        """Distance in nm to the tubes, negative inside and at most `reach_nm`; and the nearest tube, -1 for none."""
        distance, nearest = np.full(self.nodes, reach_nm, np.float32), np.full(self.nodes, -1, np.int16)
        triple = list(zip(self.nodes, self.spacing_nm, self.origin_nm, strict=True))
        axes = [np.arange(n, dtype=np.float32) * np.float32(s) - np.float32(o) for n, s, o in triple]
        for point, radius, tube in zip(tubes.points_nm, tubes.radii_nm, tubes.owner, strict=True):
            far = radius + reach_nm
            box = tuple(slice(*np.searchsorted(a, (p - far, p + far))) for a, p in zip(axes, point, strict=True))
            z, y, x = (a[b] - np.float32(p) for a, b, p in zip(axes, box, point, strict=True))
            d = np.sqrt((z * z)[:, None, None] + (y * y)[:, None] + x * x) - np.float32(radius)
            nearer = d < distance[box]
            distance[box][nearer] = d[nearer]
            nearest[box][nearer] = tube
        return distance, nearest


@dataclass(frozen=True)
class Tubes:
    """Unions of spheres along curved lines: centres (p, 3), radii (p,), each sphere's tube (p,), each tube's cell."""

    points_nm: np.ndarray
    radii_nm: np.ndarray
    owner: np.ndarray
    host: np.ndarray

    def __len__(self) -> int:
        return len(self.host)


def walk(grid: Grid, rng, start_nm, direction, *, steps: int, bend: float, uphill=None) -> np.ndarray:
    """Curved paths (n, 2 steps + 1, 3) in nm with their middle at `start_nm` (n, 3).

    Each step turns by noise of standard deviation `bend` and, where given, towards the gradient `uphill` (3, z, y, x).
    """
    halves = []
    for sign in (-1.0, 1.0):
        p, d, path = start_nm, sign * direction, []
        for _ in range(steps):
            d = d + bend * rng.standard_normal(d.shape)
            if uphill is not None:
                d = d + 0.25 * uphill[(slice(None), *grid.nearest(p))].T
            d = d / np.linalg.norm(d, axis=-1, keepdims=True)
            p = p + STEP_NM * d
            path.append(p)
        halves.append(np.stack(path, axis=1))
    path = np.concatenate([halves[0][:, ::-1], start_nm[:, None], halves[1]], axis=1)
    return ndimage.gaussian_filter1d(path, 3, axis=1)  # else a kink where the halves meet


class Placer:
    """Places tubes inside cells, clear of the axon's sheath and of one another."""

    def __init__(self, grid: Grid, family: np.ndarray, run: np.ndarray, clearance_nm: np.ndarray):
        """`family` (z, y, x) names cells, `run` (families,) the axis each follows; `clearance_nm`: to the sheath."""
        self.grid, self.family, self.run, self.clearance = grid, family, run, clearance_nm
        wall = np.zeros(family.shape, bool)
        for axis in range(3):
            here, there = ([slice(None)] * axis + [s] for s in (slice(1, None), slice(None, -1)))
            step = family[tuple(here)] != family[tuple(there)]
            wall[tuple(here)] |= step
            wall[tuple(there)] |= step
        self.depth = ndimage.distance_transform_edt(~wall, grid.spacing_nm).astype(np.float32)
        self.uphill = np.stack(np.gradient(ndimage.gaussian_filter(self.depth, 1.5), *grid.spacing_nm))
        self.points, self.radii = np.zeros((0, 3)), np.zeros(0)

    def place(self, rng: np.random.Generator, fraction: float, radius_nm, length_nm, proposals: int = 900) -> Tubes:
        """Tubes of radii and lengths in these ranges until they fill `fraction` of the volume."""
        paths, radii, good, host = self._propose(rng, radius_nm, length_nm, proposals)
        target, filled, kept = fraction * self.grid.size_nm.prod(), 0.0, []
        middle = paths.shape[1] // 2
        for k in np.flatnonzero(good[:, middle]):
            gap = np.linalg.norm(paths[k][:, None] - self.points, axis=-1) - self.radii - radii[k][:, None]
            bad = np.flatnonzero(~good[k] | (gap.min(1, initial=np.inf) < 110))
            turn = np.searchsorted(bad, middle)
            first, last = np.append(-1, bad)[turn] + 1, np.append(bad, paths.shape[1])[turn]
            if (last - first) * STEP_NM < 0.8 * length_nm[0]:
                continue
            points, r = paths[k, first:last], radii[k, first:last]
            kept.append((points, r, np.full(len(r), len(kept)), host[k]))
            self.points, self.radii = np.concatenate([self.points, points]), np.append(self.radii, r)
            inside = self.grid.inside(points)
            filled += np.pi * np.sum(r**2 * STEP_NM * inside) + 4 / 3 * np.pi * r.mean() ** 3 * inside.mean()
            if filled > target:
                break
        points, r, owner, host = zip(*kept, strict=True)
        return Tubes(np.concatenate(points), np.concatenate(r), np.concatenate(owner), np.array(host))

    def _propose(self, rng, radius_nm, length_nm, n: int):
        """Paths (n, p, 3), radii (n, p), where each may pass (n, p), and the cell that each starts in (n,)."""
        grid = self.grid
        candidates = np.argwhere((self.depth > 45) & (self.family < len(self.run)))
        start = (candidates[rng.integers(len(candidates), size=n)] + rng.uniform(-0.5, 0.5, (n, 3))) * grid.spacing_nm
        start -= grid.origin_nm
        host = self.family[grid.nearest(start)]
        host = np.where(host < len(self.run), host, 0)
        direction = np.eye(3)[self.run[host]] + 0.35 * rng.standard_normal((n, 3))
        steps = int(length_nm[1] / STEP_NM / 2)
        paths = walk(grid, rng, start, direction, steps=steps, bend=0.12, uphill=self.uphill)

        length = np.exp(rng.uniform(*np.log(length_nm), n))
        wobble = ndimage.gaussian_filter1d(rng.standard_normal(paths.shape[:2]), 5, axis=1)
        radii = rng.uniform(*radius_nm, n)[:, None] * (1 + 0.5 * np.clip(wobble, -0.6, 0.6))
        where = grid.nearest(paths)
        radii = np.clip(radii, radius_nm[0], np.maximum(self.depth[where] + 80, radius_nm[0]))

        # A thin cell may be left for a few steps: it will be widened to hold the tube.
        at_home = ndimage.uniform_filter1d((self.family[where] == host[:, None]).astype(np.float32), 11, axis=1) > 0.35
        near = np.abs(np.arange(-steps, steps + 1)) * STEP_NM <= length[:, None] / 2
        good = at_home & near & (self.clearance[where] > radii + 60) & grid.inside(paths, 500)
        return paths, radii, good, host
