import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.errors import InputError
from dualrel_jax.tiling import Tiles


@st.composite
def tilings(draw, largest=70):
    tile = draw(st.integers(1, 24))
    side = st.integers(1, min(largest, 10 * tile))
    shape = draw(st.tuples(side, side))
    return Tiles(shape, tile, draw(st.integers(0, tile - 1)), draw(st.sampled_from([1, 2, 8])))


def one_tile_at_a_time(tiles):
    """`n y x`: what each tile contributes to each pixel of the slice. `merge` is linear, so these are its weights."""
    for i in range(len(tiles)):
        alone = np.zeros((len(tiles), tiles.tile, tiles.tile), np.float32)
        alone[i] = 1
        yield tiles.merge(alone)


@settings(deadline=None, max_examples=150)
@given(tilings(), st.integers(0, 10**6), st.sampled_from([(), (1,), (3,)]))
def test_merge_undoes_cut(tiles, seed, channels):
    image = np.random.default_rng(seed).random((*tiles.shape_yx, *channels), np.float32)
    cut = tiles.cut(image)
    assert cut.shape == (len(tiles), tiles.tile, tiles.tile, *channels)
    merged = tiles.merge(cut)
    assert merged.dtype == np.float32 and merged.shape == image.shape
    np.testing.assert_allclose(merged, image, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(tilings(largest=20))
def test_weights_are_positive_inside_the_tile_only_and_sum_to_one(tiles):
    total = np.zeros(tiles.shape_yx)
    offset_y, offset_x = ((max(tiles.tile - size, 0)) // 2 for size in tiles.shape_yx)
    for (y, x), weight in zip(tiles.positions, one_tile_at_a_time(tiles), strict=True):
        inside = np.zeros(tiles.shape_yx, bool)
        inside[max(y - offset_y, 0) : y - offset_y + tiles.tile, max(x - offset_x, 0) : x - offset_x + tiles.tile] = (
            True
        )
        assert (weight[inside] > 0).all() and not weight[~inside].any()
        total += weight
    np.testing.assert_allclose(total, 1, atol=1e-5)


@settings(deadline=None, max_examples=150)
@given(tilings())
def test_tiles_stay_inside_and_neighbours_share_the_overlap(tiles):
    for axis, size in enumerate(tiles.shape_yx):
        starts = sorted({position[axis] for position in tiles.positions})
        assert starts[0] == 0 and starts[-1] + tiles.tile == max(size, tiles.tile)
        gaps = np.diff(starts)
        assert (gaps <= tiles.tile - tiles.overlap).all()
        assert len(starts) == 1 or gaps.max() - gaps.min() <= 1  # evenly spread


@pytest.mark.parametrize("shape", [(768, 1024), (1000, 300), (100, 60)])
def test_a_model_that_errs_at_tile_borders_is_weighted_down_there(shape):
    tiles = Tiles(shape, tile=128, overlap=32)
    wrong = np.full((len(tiles), 128, 128), 0.0, np.float32)
    wrong[:, 4:-4, 4:-4] = 1  # right answer: 1; wrong within 4 pixels of a tile's border
    merged = tiles.merge(wrong)
    inner = merged[4:-4, 4:-4]  # the slice's own border has no neighbour that knows better
    assert inner.min() > 0.9
    plain = np.zeros(shape), np.zeros(shape)
    if min(shape) >= 128:
        for tile, (y, x) in zip(wrong, tiles.positions, strict=True):
            plain[0][y : y + 128, x : x + 128] += tile
            plain[1][y : y + 128, x : x + 128] += 1
        assert (plain[0] / plain[1])[4:-4, 4:-4].min() <= 0.5  # an unweighted mean would fail


def test_blending_leaves_no_seam():
    """Tiles that disagree by a constant join in a ramp: no step is larger than the window's steepest."""
    tiles = Tiles((64, 200), tile=64, overlap=32)
    constant = np.arange(len(tiles), dtype=np.float32)[:, None, None] * np.ones((1, 64, 64), np.float32)
    assert np.abs(np.diff(tiles.merge(constant), axis=1)).max() < 2 * np.pi / 2 / 32


def test_a_shifted_merge_would_be_seen():
    image = np.zeros((90, 130), np.float32)
    image[37, 101] = image[0, 0] = image[-1, -1] = 1
    tiles = Tiles(image.shape, 48, 16)
    np.testing.assert_allclose(tiles.merge(tiles.cut(image)), image, atol=1e-6)
    assert np.abs(tiles.merge(np.roll(tiles.cut(image), 1, axis=2)) - image).max() > 0.5


def test_tile_shape_is_constant_and_rounded_up():
    for shape in [(1, 1), (5, 999), (128, 128), (129, 128), (768, 1024)]:
        tiles = Tiles(shape, tile=120, overlap=40, multiple=16)
        cut = tiles.cut(np.zeros(shape, np.uint8))
        assert cut.dtype == np.uint8 and cut.shape[1:] == (128, 128)
    assert len(Tiles((128, 128), 120, 40, 16)) == 1 and len(Tiles((129, 128), 120, 40, 16)) == 2


def test_a_small_slice_is_reflected():
    row = Tiles((1, 3), tile=7, overlap=0).cut(np.uint8([[1, 2, 3]]))
    assert row[0, 0].tolist() == row[0, 6].tolist() == [3, 2, 1, 2, 3, 2, 1]


def test_cost_is_linear_in_pixels():
    """Pixels computed per pixel of the slice stay below (tile / (tile - overlap))^2 at any size."""
    for side in (256, 1024, 4096, 16384):
        assert len(Tiles((side, side), 256, 64)) * 256**2 / side**2 < (256 / 192) ** 2


@pytest.mark.parametrize(
    ("tile", "overlap", "words"),
    [
        (64, 64, "config.predict.overlap is 64.*0 to 63"),
        (64, -1, "config.predict.overlap is -1"),
        (0, 0, "config.predict.tile is 0"),
    ],
)
def test_impossible_tiles_name_the_config_key(tile, overlap, words):
    with pytest.raises(InputError, match=words):
        Tiles((100, 100), tile, overlap)


def test_arrays_of_another_shape_are_refused():
    tiles = Tiles((100, 80), 32, 8)
    with pytest.raises(ValueError, match="100, 80"):
        tiles.cut(np.zeros((80, 100)))
    with pytest.raises(ValueError, match="32, 32"):
        tiles.merge(np.zeros((1, 32, 32)))
    with pytest.raises(InputError, match="0, 5"):
        Tiles((0, 5), 32, 8)
