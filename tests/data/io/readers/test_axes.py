"""Axes are those that a file names, in whatever order and words, or the file is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualrel_jax.data.io.readers.axes import find_axes, fixed_channel, letters
from dualrel_jax.data.io.readers.base import array_stack
from dualrel_jax.errors import InputError

ZYX = np.arange(2 * 5 * 7).reshape(2, 5, 7)
WORDS = {"z": ["z", "Z", "depth", "plane", "sections"], "y": ["y", "row", "Rows", "height"], "x": ["x", "col", "width"]}
WORDS |= {"t": ["t", "time"], "c": ["c", "Channel", "channels", "c^"]}


def whole(stack):
    return np.stack([stack.read(z, slice(None), slice(None)) for z in range(stack.shape[0])])


@given(st.permutations("zyxtc"), st.sets(st.sampled_from("tc")), st.data())
def test_any_order_of_named_axes(order, extra, data):
    order = [letter for letter in order if letter in "zyx" or letter in extra]
    names = [data.draw(st.sampled_from(WORDS[letter])) for letter in order]
    array = ZYX.transpose(["zyx".index(letter) for letter in order if letter in "zyx"])
    array = array.reshape([ZYX.shape["zyx".index(letter)] if letter in "zyx" else 1 for letter in order])
    sizes = [{"z": 30.0, "y": 8.0, "x": 4.0}.get(letter, float("nan")) for letter in order]
    stack = array_stack(array, "a", "array", names, sizes)
    assert stack.shape == ZYX.shape and stack.voxel_nm == (30, 8, 4)
    np.testing.assert_array_equal(whole(stack), ZYX)
    np.testing.assert_array_equal(stack.read(1, slice(1, 4), slice(2, 6)), ZYX[1, 1:4, 2:6])
    assert ("stored as" in stack.format) == ([letter for letter in order if letter in "zyx"] != list("zyx"))


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((1, 5, 1, 7), ["y", "x", "t", "c"]),
        ((3, 2, 5, 7), ["t", "c", "y", "x"]),
        ((2, 5, 7), ["c", "y", "x"]),
        ((2, 5, 7), ["x", "y", "x"]),
        ((2, 5, 7), ["z", "y", "c"]),
        ((3, 2, 5, 7), ["t", "z", "y", "x"]),
        ((2, 5, 7, 3), ["z", "y", "x", "c"]),
        ((3, 2, 5, 7), ["", "z", "y", "x"]),
        ((2, 5, 7), ["", "time", ""]),
        ((5, 7), ["z", "x"]),
    ],
)
def test_named_axes_that_are_no_single_stack(shape, names):
    with pytest.raises(InputError, match=r"^a: is .*with the axes .*expected one stack \(z, y, x\)"):
        find_axes(shape, names, "a")


@given(st.permutations("tyx"), st.sets(st.sampled_from("zc")), st.booleans())
def test_time_points_are_slices_where_nothing_else_may_be(order, extra, sized):
    names = [*order, *sorted(extra)]
    array = ZYX.transpose(["tyx".index(letter) for letter in order]).reshape(
        [ZYX.shape["tyx".index(letter)] if letter in "tyx" else 1 for letter in names]
    )
    sizes = [{"z": 30.0, "y": 8.0, "x": 4.0, "t": 0.1}.get(letter, float("nan")) for letter in names] if sized else None
    stack = array_stack(array, "a", "array", names, sizes)
    np.testing.assert_array_equal(whole(stack), ZYX)
    expected = pytest.approx((30.0 if "z" in extra else float("nan"), 8, 4), nan_ok=True) if sized else None
    assert "its frames as slices" in stack.format and stack.voxel_nm == expected


def test_frames_of_an_array_whose_other_axes_have_no_names():
    stack = array_stack(ZYX, "a", "array", ["time", "", ""])
    assert stack.format == "array, its frames as slices"
    np.testing.assert_array_equal(whole(stack), ZYX)


@pytest.mark.parametrize(
    ("shape", "names", "said"),
    [
        ((12, 5, 7), "cyx", True),
        ((12, 1, 5, 7), "czyx", True),
        ((12, 3, 5, 7), "czyx", False),
        ((3, 5, 7), "cyx", False),
    ],
)
def test_many_channels_that_may_be_slices(shape, names, said):
    with pytest.raises(InputError, match="has .* channels; expected one: name its channel as") as error:
        fixed_channel(shape, names, None, "a")
    assert ("; if these are slices, save it with the axes z y x" in str(error.value)) == said


@pytest.mark.parametrize(
    ("shape", "names", "axes"),
    [
        ((5, 7), ["x", "y"], (None, 1, 0)),
        ((2, 5, 7), ["focus", "y", "x"], (0, 1, 2)),
        ((2, 5, 7), ["dim_0", "dim_1", "dim_2"], (0, 1, 2)),
        ((1, 2, 5, 7), ["c", "", "", ""], (1, 2, 3)),
        ((2, 5, 7), ["too", "few"], (0, 1, 2)),
        ((1, 2, 5, 7, 1), None, (1, 2, 3)),
        ((5, 7), None, (None, 0, 1)),
    ],
)
def test_axes_with_few_or_no_names(shape, names, axes):
    assert tuple(find_axes(shape, names, "a")) == axes


def test_letters():
    assert letters(["Depth", "rows", "x^", "channel^", None, "/scales/z"]) == "zyxc?z"
