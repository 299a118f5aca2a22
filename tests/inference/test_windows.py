"""Regions as a person writes them, and windows that cover them once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.errors import InputError
from dualrel_jax.inference.windows import parse_region, slabs, windows
from dualrel_jax.utils.boxes import within
from dualrel_jax.utils.ranges import central_window, evenly_spaced

SHAPE = (10, 20, 30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ((0, 10), (0, 20), (0, 30))),
        ("2:5,,", ((2, 5), (0, 20), (0, 30))),
        ("2:5", ((2, 5), (0, 20), (0, 30))),
        ("2:, :7 ,5:6", ((2, 10), (0, 7), (5, 6))),
    ],
)
def test_parts_of_a_region_may_be_left_out(text, expected):
    assert [(part.start, part.stop) for part in parse_region(text, SHAPE)] == list(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2:5,", "expected slices, z0:z1, or a box"),
        ("2:5,,,", "expected slices, z0:z1, or a box"),
        ("2:11,,", "z is '2:11', expected a range inside 0:10"),
        (",7:7,", "y is '7:7'"),
        (",,-3:5", "x is '-3:5'.*10 x 20 x 30"),
        ("5,,", "z is '5'"),
        ("a:b,,", "z is 'a:b'"),
    ],
)
def test_a_region_that_is_none_is_explained(text, said):
    with pytest.raises(InputError, match=said):
        parse_region(text, SHAPE)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_windows_cover_the_region_once_and_reach_as_far_as_asked(data):
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    region = [
        slice(*sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))) for n in shape
    ]
    side, halo, least = (data.draw(st.integers(0, top)) for top in (12, 5, 20))
    covered = np.zeros(shape, int)
    for window in windows(region, shape, side, (halo, halo), (least, least)):
        covered[window.inner] += 1
        for inner, outer, length in zip(window.inner, window.outer, shape, strict=True):
            assert not side or inner.stop - inner.start <= side
            assert 0 <= outer.start <= max(inner.start - halo, 0)
            assert min(inner.stop + halo, length) <= outer.stop <= length
            assert outer.stop - outer.start >= min(least, length)
    expected = np.zeros(shape, int)
    expected[tuple(region)] = 1
    np.testing.assert_array_equal(covered, expected)


def test_slabs_and_boxes_within_others():
    assert slabs(slice(3, 10), 4) == [slice(3, 7), slice(7, 10)]
    assert within((slice(5, 7), range(4, 6)), (slice(2, 9), slice(4, 9))) == (slice(3, 5), slice(0, 2))


def test_the_middle_is_as_far_from_both_ends_as_can_be_and_all_of_what_is_small():
    assert central_window((10, 7), 4) == (slice(3, 7), slice(1, 5))
    assert central_window((3, 4), 4) == (slice(0, 3), slice(0, 4))


def test_spread_keeps_the_ends_and_takes_none_twice():
    assert evenly_spaced("abcdefghi", 3) == ["a", "e", "i"] and evenly_spaced(range(5), 9) == [0, 1, 2, 3, 4]
    assert evenly_spaced([7], 4) == [7] and evenly_spaced([], 4) == evenly_spaced([7], 0) == []
    for size in range(1, 40):
        for count in range(1, size + 1):
            assert len(set(evenly_spaced(range(size), count))) == count
