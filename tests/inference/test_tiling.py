import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.errors import InputError
from dualrel_jax.inference.tiling import Tiles


@st.composite
def tilings(draw, largest=70):
    tile = draw(st.integers(1, 24))
    side = st.integers(1, min(largest, 10 * tile))
    shape = draw(st.tuples(side, side))
    return Tiles(shape, tile, draw(st.integers(0, tile - 1)), draw(st.sampled_from([1, 2, 8])))


def one_tile_at_a_time(tiles):
    """`n y x`: what each tile contributes to each pixel of the slice. `merge` is linear, so these are its weights."""
    for i in range(len(tiles)):
        alone = np.zeros((len(tiles), *tiles.tile_yx), np.float32)
        alone[i] = 1
        yield tiles.merge(alone)


@settings(deadline=None, max_examples=150)
@given(tilings(), st.integers(0, 10**6), st.sampled_from([(), (1,), (3,)]))
def test_merge_undoes_cut(tiles, seed, channels):
    image = np.random.default_rng(seed).random((*tiles.shape_yx, *channels), np.float32)
    cut = tiles.cut(image)
    assert cut.shape == (len(tiles), *tiles.tile_yx, *channels)
    merged = tiles.merge(cut)
    assert merged.dtype == np.float32 and merged.shape == image.shape
    np.testing.assert_allclose(merged, image, atol=1e-6 * max(1, len(tiles) / 100))  # float32 sums of as many


@settings(deadline=None, max_examples=40)
@given(tilings(largest=20))
def test_weights_are_positive_inside_the_tile_only_and_sum_to_one(tiles):
    total = np.zeros(tiles.shape_yx)
    height, width = tiles.tile_yx
    offset_y, offset_x = (max(height - tiles.shape_yx[0], 0) // 2, max(width - tiles.shape_yx[1], 0) // 2)
    for (y, x), weight in zip(tiles.positions, one_tile_at_a_time(tiles), strict=True):
        inside = np.zeros(tiles.shape_yx, bool)
        inside[max(y - offset_y, 0) : y - offset_y + height, max(x - offset_x, 0) : x - offset_x + width] = True
        assert (weight[inside] > 0).all() and not weight[~inside].any()
        total += weight
    np.testing.assert_allclose(total, 1, atol=1e-5)


@settings(deadline=None, max_examples=150)
@given(tilings())
def test_tiles_stay_inside_and_neighbours_share_the_overlap(tiles):
    for axis, (size, side) in enumerate(zip(tiles.shape_yx, tiles.tile_yx, strict=True)):
        assert side <= tiles.tile and side % tiles.multiple == 0
        starts = sorted({position[axis] for position in tiles.positions})
        assert starts[0] == 0 and size <= starts[-1] + side < size + tiles.multiple
        gaps = np.diff(starts)
        assert (gaps <= side - tiles.overlap).all()
        assert len(starts) == 1 or gaps.max() - gaps.min() <= 1  # evenly spread


@pytest.mark.parametrize("shape", [(768, 1024), (1000, 300), (100, 60)])
def test_a_model_that_errs_at_tile_borders_is_weighted_down_there(shape):
    tiles = Tiles(shape, tile=128, overlap=32)
    height, width = tiles.tile_yx
    wrong = np.zeros((len(tiles), height, width), np.float32)
    wrong[:, 4:-4, 4:-4] = 1  # right answer: 1; wrong within 4 pixels of a tile's border
    merged = tiles.merge(wrong)
    inner = merged[4:-4, 4:-4]  # the slice's own border has no neighbour that knows better
    assert inner.min() > 0.9
    plain = np.zeros(shape), np.zeros(shape)
    if min(shape) >= 128:
        for tile, (y, x) in zip(wrong, tiles.positions, strict=True):
            plain[0][y : y + height, x : x + width] += tile
            plain[1][y : y + height, x : x + width] += 1
        assert (plain[0] / plain[1])[4:-4, 4:-4].min() <= 0.5  # an unweighted mean would fail


def test_blending_leaves_no_seam():
    """Tiles that disagree by a constant join in a ramp: no step is larger than the window's steepest."""
    tiles = Tiles((64, 200), tile=64, overlap=32)
    constant = np.arange(len(tiles), dtype=np.float32)[:, None, None] * np.ones(tiles.tile_yx, np.float32)
    assert np.abs(np.diff(tiles.merge(constant), axis=1)).max() < 2 * np.pi / 2 / 32


def test_a_shifted_merge_would_be_seen():
    image = np.zeros((90, 130), np.float32)
    image[37, 101] = image[0, 0] = image[-1, -1] = 1
    tiles = Tiles(image.shape, 48, 16)
    np.testing.assert_allclose(tiles.merge(tiles.cut(image)), image, atol=1e-6)
    assert np.abs(tiles.merge(np.roll(tiles.cut(image), 1, axis=2)) - image).max() > 0.5


@pytest.mark.parametrize(
    ("shape", "count", "tile_yx"),
    [
        ((1, 1), 1, (16, 16)),
        ((128, 120), 1, (128, 128)),
        ((129, 128), 2, (96, 128)),  # (129 + 40) / 2 = 84.5, rounded up to 96
        ((400, 1024), 60, (112, 128)),  # 5 x 12; (400 + 4 * 40) / 5 = 112, (1024 + 11 * 40) / 12 = 122
    ],
)
def test_tiles_are_as_few_as_allowed_and_then_as_small(shape, count, tile_yx):
    tiles = Tiles(shape, tile=120, overlap=40, multiple=16)
    cut = tiles.cut(np.zeros(shape, np.uint8))
    assert cut.dtype == np.uint8 and cut.shape == (count, *tile_yx)


def test_a_small_slice_is_reflected():
    (tile,) = Tiles((1, 3), tile=8, overlap=0, multiple=8).cut(np.uint8([[1, 2, 3]]))
    assert tile.tolist() == 8 * [[3, 2, 1, 2, 3, 2, 1, 2]]


def test_cost_is_linear_in_pixels():
    """Pixels computed per pixel of the slice stay below (tile / (tile - overlap))^2 at any size."""
    for side in (256, 1024, 4096, 16384):
        tiles = Tiles((side, side), 256, 64)
        assert len(tiles) * np.prod(tiles.tile_yx) / side**2 < (256 / 192) ** 2


def test_arrays_of_another_shape_are_refused():
    tiles = Tiles((100, 80), 32, 8)
    with pytest.raises(ValueError, match="100, 80"):
        tiles.cut(np.zeros((80, 100)))
    with pytest.raises(ValueError, match="32, 32"):
        tiles.merge(np.zeros((1, 32, 32)))
    with pytest.raises(InputError, match="0, 5"):
        Tiles((0, 5), 32, 8)
