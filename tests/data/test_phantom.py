"""The phantom: exact, reproducible, and too hard for a threshold."""

import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dualrel_jax.data import phantom as module
from dualrel_jax.data.phantom import phantom
from dualrel_jax.data.phantom.geometry import STEP_NM, Grid, Placer, Tubes
from dualrel_jax.data.phantom.section import Artist
from dualrel_jax.data.phantom.tissue import Tissue, grow
from dualrel_jax.errors import InputError

NAMES = ("phantom", "phantom_b")


def arrays(name, part="test", seed=0):
    return tuple(volume[:] for volume in phantom(name, part, seed))


@pytest.mark.parametrize(("name", "voxel_nm"), [("phantom", (30, 10, 10)), ("phantom_b", (50, 8, 8))])
def test_is_a_labelled_volume(name, voxel_nm):
    image, label = phantom(name, "test")
    assert image.shape == label.shape == (24, 256, 320)
    assert image.dtype == label.dtype == np.uint8
    assert image.voxel_nm == label.voxel_nm == voxel_nm
    assert set(np.unique(label[:])) == {0, 1}
    assert 0.05 < label[:].mean() < 0.10
    assert label[:].any((1, 2)).all()
    assert np.isin(image[:], (0, 255)).mean() < 0.01, "the grey range is clipped"


@pytest.mark.parametrize("name", NAMES)
def test_no_threshold_finds_the_mitochondria(name):
    image, label = arrays(name)
    truth = label > 0
    best = 0.0
    for sigma in (0, 1, 1.5, 2, 3, 4, 5, 6, 8, 10):
        blurred = np.stack([ndimage.gaussian_filter(s.astype(np.float32), sigma) for s in image]).clip(0, 255)
        inside = np.bincount(blurred[truth].astype(int), minlength=256)
        everywhere = np.bincount(blurred.ravel().astype(int), minlength=256)
        for order in (slice(None), slice(None, None, -1)):  # mitochondria dark, or bright
            hit, found = inside[order].cumsum(), everywhere[order].cumsum()
            best = max(best, (hit / (truth.sum() + found - hit)).max())
    assert 0.10 < best < 0.40


def test_each_section_is_the_same_whenever_it_is_drawn():
    image, label = arrays("phantom")
    section = module._sections("phantom", "test", 0)
    for z in (17, 3, 4):
        again = section(z)
        np.testing.assert_array_equal(again[0], image[z])
        np.testing.assert_array_equal(again[1], label[z])


def test_is_kept_between_processes_unless_the_file_or_the_code_is_another(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    drawn = []
    monkeypatch.setattr(
        module, "_draw", lambda *args: drawn.append(args) or np.full((2, 3, 4, 5), len(drawn), np.uint8)
    )
    fresh = module._arrays.__wrapped__  # as in a new process
    for damage, expected in ((None, 1), (None, 1), (100, 2), (0, 3), ("code", 4)):
        if isinstance(damage, int):
            (kept,) = (path for path in tmp_path.rglob("*") if path.is_file())
            kept.write_bytes(kept.read_bytes()[:damage])
        if damage == "code":
            monkeypatch.setattr(module, "_code", lambda: 1)
        np.testing.assert_array_equal(fresh("phantom", "test", 0), expected)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    np.testing.assert_array_equal(fresh("phantom", "test", 0), 5)


def test_seeds_parts_and_names_differ():
    first = [module._stream(f"{n} {p}", s, "cells").random() for n in NAMES for p in module.SECTIONS for s in (0, 1)]
    assert len(set(first)) == 8
    assert np.mean(arrays("phantom")[1] != arrays("phantom_b")[1]) > 0.05


def test_mitochondria_run_through_many_sections():
    label = arrays("phantom")[1]
    objects = ndimage.find_objects(ndimage.label(label)[0])
    assert len(objects) >= 8
    assert sum(o[0].stop - o[0].start >= 12 for o in objects) >= 5
    overlap = [(a & b).sum() / (a | b).sum() for a, b in zip(label[1:], label[:-1], strict=True)]
    assert np.mean(overlap) > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_the_mask_ends_where_the_dark_membrane_does(name):
    image, label = arrays(name)
    inside = np.stack([ndimage.distance_transform_edt(s) for s in label])
    outside = np.stack([ndimage.distance_transform_edt(1 - s) for s in label])
    rim, around = (image[(d > low) & (d <= low + 1)].mean() for d, low in ((inside, 0.5), (outside, 1.5)))
    assert rim < around - 20


def test_no_cell_wall_crosses_a_mitochondrion_and_none_is_in_myelin():
    shape, voxel_nm = (16, 160, 160), (30.0, 10.0, 10.0)
    block = grow(Tissue(), shape, voxel_nm, partial(module._stream, "test", 5))
    artist = Artist(block, shape[1:], voxel_nm[1:])
    seen = 0
    for z in range(shape[0]):
        mito = artist.draw(z, np.random.default_rng(z))[1]
        parts, count = ndimage.label(ndimage.binary_erosion(mito))
        cells = artist._cells(z)
        axon = artist._enlarge(block.signed_nm[2:3, z + 1])[0]
        assert not (mito & (axon > 0) & (axon < block.tissue.sheath_nm)).any()
        for part in range(1, count + 1):
            assert len(np.unique(cells[parts == part])) == 1
        seen += count
    assert seen > 10


def test_placed_tubes_keep_apart_and_fill_their_share():
    grid = Grid((40, 200, 200), (30.0, 10.0, 10.0))
    open_space = np.zeros(grid.nodes, int)
    placer = Placer(grid, open_space, np.zeros(1, int), np.full(grid.nodes, 1e4))
    tubes = placer.place(np.random.default_rng(0), 0.05, (100.0, 150.0), (300.0, 900.0))
    assert len(tubes) > 3
    distance = np.linalg.norm(tubes.points_nm[:, None] - tubes.points_nm, axis=-1)
    gap = distance - tubes.radii_nm[:, None] - tubes.radii_nm
    assert gap[tubes.owner[:, None] != tubes.owner].min() >= 110
    steps = distance[np.arange(len(distance) - 1), np.arange(1, len(distance))]
    assert steps[np.diff(tubes.owner) == 0].max() < 1.5 * STEP_NM
    share = (grid.signed_distance(tubes, 100.0)[0] < 0).mean()
    assert 0.03 < share < 0.06


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-300, 900)] * 3, st.floats(20, 200)), min_size=1, max_size=6),
    st.floats(30, 200),
)
def test_signed_distance_is_that_to_the_nearest_sphere(spheres, reach_nm):
    grid = Grid((12, 40, 48), (30.0, 10.0, 10.0))
    spheres = np.array(spheres)
    ids = np.arange(len(spheres))
    distance, nearest = grid.signed_distance(Tubes(spheres[:, :3], spheres[:, 3], ids, ids), reach_nm)
    nodes = np.moveaxis(np.indices(grid.nodes), 0, -1) * grid.spacing_nm - grid.origin_nm
    each = np.linalg.norm(nodes[..., None, :] - spheres[:, :3], axis=-1) - spheres[:, 3]
    np.testing.assert_allclose(distance, np.minimum(each.min(-1), reach_nm), atol=0.01)
    np.testing.assert_array_equal(nearest[each.min(-1) > reach_nm + 0.01], -1)
    near = each.min(-1) < reach_nm - 0.01
    np.testing.assert_allclose(
        np.take_along_axis(each[near], nearest[near][:, None].astype(int), 1)[:, 0], each.min(-1)[near], atol=0.02
    )


@pytest.mark.parametrize("length_nm", [60, 150, (400, 120, 120)])
def test_noise_has_unit_variance_and_the_length_asked_for(length_nm):
    grid = Grid((60, 400, 400), (30.0, 10.0, 10.0))
    rng = np.random.default_rng(0)
    fields = np.stack([grid.noise(rng, length_nm) for _ in range(6)])
    assert fields.dtype == np.float32 and fields.shape[1:] == grid.nodes
    assert fields.var() == pytest.approx(1, abs=0.15)
    # A Gaussian blur correlates points at distance d by exp(-(d / 2 sigma)^2).
    sigma = np.broadcast_to(length_nm, 3)[2]
    expected = np.exp(-((40 / (2 * sigma)) ** 2))
    assert (fields[..., 1:] * fields[..., :-1]).mean() == pytest.approx(expected, abs=0.15)


def test_unknown_names_and_parts_are_explained():
    with pytest.raises(InputError, match="data.name: got 'phantom_c', expected one of phantom, phantom_b"):
        phantom("phantom_c", "test")
    with pytest.raises(InputError, match="got 'valid', expected one of train, test"):
        phantom("phantom", "valid")


def test_needs_neither_jax_nor_tensorflow():
    code = "import sys, dualrel_jax.data.phantom; sys.exit(bool({'jax', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_training_volume_is_made_in_seconds(name):
    start = time.process_time()
    image, label = module._draw(name, "train", 0)
    assert time.process_time() - start < 12
    assert image.shape == (148, 256, 320)
    assert 0.05 < label[:].mean() < 0.10
