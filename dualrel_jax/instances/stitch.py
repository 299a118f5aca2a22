"""Which basins of the distance to the background are one instance: the graph of basins, in one box or over all."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Basins(NamedTuple):
    """Nodes of the graph, in ascending order of `ids`.

    Attributes:
        ids: `n` int64, the voxel of the maximum, counted through the whole volume: the same in every box.
        peaks_nm: `n` float32, the distance to the background there.
    """

    ids: np.ndarray
    peaks_nm: np.ndarray


class Passes(NamedTuple):
    """Edges of the graph: the highest place between two basins that touch.

    Attributes:
        ends: `k x 2`; positions in `Basins` or ids, as the function states.
        heights_nm: `k` float32, the lower distance of the two voxels on both sides of the border.
        places: `k` int64, a number of this pair of voxels in the whole volume, for an order of equal heights.
    """

    ends: np.ndarray
    heights_nm: np.ndarray
    places: np.ndarray

    def __getitem__(self, chosen) -> "Passes":
        return Passes(self.ends[chosen], self.heights_nm[chosen], self.places[chosen])


class Necks(NamedTuple):
    """Where two instances that touch are parted.

    Attributes:
        depth_nm: a neck's radius is smaller by this than that of the thinner side; infinity: nothing parts.
        ratio: and at most this share of it.
    """

    depth_nm: float
    ratio: float = 1.0

    def part(self, heights_nm: np.ndarray, lower_peaks_nm: np.ndarray) -> np.ndarray:
        """Whether passes of these heights are necks. As the lower peak grows, a neck stays one."""
        return (lower_peaks_nm - heights_nm >= self.depth_nm) & (heights_nm <= self.ratio * lower_peaks_nm)


def scrambled(numbers: np.ndarray) -> np.ndarray:
    """A one-to-one map of int64 to uint64 without any pattern (the finaliser of MurmurHash3): an order of equals.

    On a plateau of equal distances each voxel then has a higher one within a few steps, in whichever box it lies.
    """
    mixed = numbers.astype(np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(33))


def merge(basins: Basins, passes: Passes, necks: Necks, complete: np.ndarray) -> tuple[np.ndarray, Passes]:
    """Joins basins that no narrow neck separates.

    Passes are followed from the highest to the lowest. Two groups of basins become one unless the pass is a neck. By
    depth alone what remains are the maxima of the h-maxima transform of the distance (Soille, Morphological Image
    Analysis, 2003, chapter 6); by ratio alone, of its logarithm. Of a basin that is lower than the neighbour behind its
    highest pass nothing else than this pass decides. So all of these are joined at once, in rounds, and a box may join
    those whose passes it all knows, without changing what the whole graph gives.

    Args:
        basins: `n` nodes.
        passes: edges, whose ends are positions in `basins`.
        necks: which passes part.
        complete: `n` bool, whether all passes of a basin are in `passes`.

    Returns:
        `n`: the position of the highest basin of the group of each basin; the passes between groups that are still
        undecided, none where all basins are complete.
    """
    group = np.arange(len(basins.ids))
    order = np.lexsort((scrambled(passes.places), passes.heights_nm))[::-1]
    passes = passes[order]
    tie = scrambled(basins.ids)
    while len(passes.places):
        passes = _undecided(passes, group, basins.peaks_nm, necks)
        # Written from the lowest pass to the highest: the last one stays.
        highest = np.full(len(group), -1)
        highest[passes.ends[::-1].ravel()] = np.repeat(np.arange(len(passes.places))[::-1], 2)
        low = np.flatnonzero((highest >= 0) & complete)
        there = passes.ends[highest[low]].sum(axis=1) - low
        rise_nm = basins.peaks_nm[there] - basins.peaks_nm[low]
        lower = (rise_nm > 0) | ((rise_nm == 0) & (tie[there] > tie[low]))
        if not lower.any():
            break
        group[low[lower]] = there[lower]
        group = _roots(group)
    return group, passes


def _undecided(passes: Passes, group: np.ndarray, peaks_nm: np.ndarray, necks: Necks) -> Passes:
    """The highest pass between each two groups, without necks: peaks only grow, so a neck stays one."""
    ends = np.sort(group[passes.ends], axis=1)
    joins = (ends[:, 0] != ends[:, 1]) & ~necks.part(passes.heights_nm, peaks_nm[ends].min(axis=1))
    passes = Passes(ends, passes.heights_nm, passes.places)[joins]
    _, first = np.unique(passes.ends[:, 0] * len(group) + passes.ends[:, 1], return_index=True)
    return passes[np.sort(first)]


def _roots(parent: np.ndarray) -> np.ndarray:
    """The end of the chain of parents of each node."""
    while True:
        grandparent = parent[parent]
        if (grandparent == parent).all():
            return parent
        parent = grandparent


def stitch(boxes_basins: list[Basins], boxes_passes: list[Passes], necks: Necks) -> list[np.ndarray]:
    """Group, 0, 1, ..., of each basin of each box; a basin that lies in several boxes has one id in all of them.

    Args:
        boxes_basins: of each box.
        boxes_passes: of each box, the ends being ids.
        necks: as in `merge`.
    """
    ids = np.concatenate([basins.ids for basins in boxes_basins])
    peaks_nm = np.concatenate([basins.peaks_nm for basins in boxes_basins])
    ids, first, position = np.unique(ids, return_index=True, return_inverse=True)
    every = Passes(*(np.concatenate(parts) for parts in zip(*boxes_passes, strict=True)))
    every = Passes(np.searchsorted(ids, every.ends), every.heights_nm, every.places)
    highest, _ = merge(Basins(ids, peaks_nm[first]), every, necks, np.ones(len(ids), bool))
    pairs = (np.ones(len(ids), bool), (np.arange(len(ids)), highest))
    _, group = connected_components(coo_array(pairs, shape=(len(ids),) * 2), directed=False)
    return np.split(group[position], np.cumsum([len(basins.ids) for basins in boxes_basins])[:-1])
