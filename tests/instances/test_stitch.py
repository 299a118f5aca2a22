import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.instances.stitch import Basins, Necks, Passes, merge, scrambled, stitch


def random_graph(seed, n=30, k=80, levels=12):
    """Few different heights, so that most are equal to others; each pass lies below both of its peaks."""
    rng = np.random.default_rng(seed)
    basins = Basins(np.sort(rng.choice(10**6, n, replace=False)), rng.integers(4, levels, n).astype(np.float32))
    ends = rng.integers(0, n, (k, 2))
    ends = ends[ends[:, 0] != ends[:, 1]]
    heights = np.minimum(basins.peaks_nm[ends].min(axis=1), rng.integers(1, levels, len(ends))).astype(np.float32)
    return basins, Passes(ends, heights, rng.choice(10**6, len(ends), replace=False))


NECKS = st.builds(Necks, st.sampled_from([1, 2, 3, 5, np.inf]), st.sampled_from([1.0, 0.7, 0.4]))


def one_by_one(basins, passes, necks):
    """Reference: pass by pass, from the highest."""
    group = {i: {i} for i in range(len(basins.ids))}
    peak = lambda members: max(basins.peaks_nm[i] for i in members)  # noqa: E731
    for at in np.lexsort((scrambled(passes.places), passes.heights_nm))[::-1]:
        one, two = (group[int(i)] for i in passes.ends[at])
        lower, height = min(peak(one), peak(two)), passes.heights_nm[at]
        if one is not two and (lower - height < necks.depth_nm or height > necks.ratio * lower):
            one |= two
            for i in two:
                group[i] = one
    return [min(group[i]) for i in range(len(basins.ids))]


def partition(groups):
    names = {}
    return [names.setdefault(int(i), len(names)) for i in groups]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), NECKS)
def test_rounds_give_what_single_passes_give(seed, necks):
    basins, passes = random_graph(seed)
    group, rest = merge(basins, passes, necks, np.ones(len(basins.ids), bool))
    assert partition(group) == partition(one_by_one(basins, passes, necks))
    assert not len(rest.places)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), NECKS, st.integers(2, 5))
def test_what_boxes_join_by_themselves_changes_nothing(seed, necks, count):
    """Each basin has voxels in one or two boxes; one that is in a single box and touches no other is joined there."""
    basins, passes = random_graph(seed)
    rng = np.random.default_rng(seed)
    at_home = rng.integers(0, count, len(basins.ids))
    owner = at_home[passes.ends[:, 0]]
    parts, edges, members = [], [], []
    for box in range(count):
        mine = passes[owner == box]
        present = np.unique(np.append(mine.ends, np.flatnonzero(at_home == box)))
        elsewhere = passes[owner != box].ends
        complete = (at_home[present] == box) & ~np.isin(present, elsewhere)
        local = Passes(np.searchsorted(present, mine.ends), mine.heights_nm, mine.places)
        group, rest = merge(Basins(basins.ids[present], basins.peaks_nm[present]), local, necks, complete)
        kept = np.unique(group)
        parts.append(Basins(basins.ids[present[kept]], basins.peaks_nm[present[kept]]))
        edges.append(Passes(basins.ids[present[rest.ends]], rest.heights_nm, rest.places))
        members.append((present, np.searchsorted(kept, group)))
    groups = stitch(parts, edges, necks)
    final = np.full(len(basins.ids), -1)
    for (present, at), group in zip(members, groups, strict=True):
        assert ((final[present] < 0) | (final[present] == group[at])).all()
        final[present] = group[at]
    assert partition(final) == partition(one_by_one(basins, passes, necks))


def test_nothing_to_stitch():
    nothing = Basins(np.zeros(0, np.int64), np.zeros(0, np.float32))
    no_pass = Passes(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert [len(group) for group in stitch([nothing, nothing], [no_pass, no_pass], Necks(60.0))] == [0, 0]


def test_scrambling_keeps_numbers_apart():
    assert len(np.unique(scrambled(np.arange(100_000)))) == 100_000
    assert (
        scrambled(np.arange(4)).dtype == np.uint64
        and pytest.approx(0.5, abs=0.01) == (scrambled(np.arange(100_000)) / 2**64).mean()
    )
