"""What predict and doctor say of a volume alone."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from dualrel_jax.data.checks.stored_type import check_stored_type
from dualrel_jax.data.checks.volume import check_prediction_input, check_probability, check_volume
from dualrel_jax.data.io.volume import Volume, open_volume


@pytest.fixture(scope="module")
def tissue():
    """z y x, uint8: thin dark lines on noise, independent from slice to slice."""
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(6, 128, 128)), (0, 6, 6))
    lines = np.abs(field) < 0.1 * field.std()
    noise = np.random.default_rng(1).normal(scale=6, size=field.shape)
    return (170 - 90 * lines + noise).clip(0, 255).astype(np.uint8)


def said(volume):
    volume = Volume.from_array(volume, name="em") if isinstance(volume, np.ndarray) else volume
    findings = list(check_prediction_input(volume))
    assert all(finding.look for finding in findings)
    return " ".join(finding.text for finding in findings)


def test_good_volumes_pass_in_silence(tissue):
    assert said(tissue) == said(tissue[:1]) == said(tissue.astype(np.float32) / 255) == ""


def test_blank_inverted_transposed_and_labels(tissue):
    blank = tissue.copy()
    blank[3] = 0
    assert "(z = 0, 1, 2, 3, 4, 5 and 3 more)" in said(0 * np.concatenate([tissue, tissue[:3]]))
    assert "1 of 6 slices looked at of em hold one grey value only (z = 3)" in said(blank)
    assert "em seems inverted" in said(255 - tissue) and "em seems inverted" in said(-tissue.astype(np.int16))
    smooth = ndimage.gaussian_filter(tissue.astype(float), (0, 2, 2))
    assert "its axes may not be z y x" in said(np.ascontiguousarray(smooth.transpose(1, 2, 0)))
    assert "looks like labels, not like an image" in said((tissue > 120).astype(np.uint8))
    assert "one grey value only (z = 0, 1, 2, 3, 4, 5)" in said(0 * tissue)


@pytest.fixture(scope="module")
def greys():
    """z y x, real, 20 to 235: all greys of a tissue, with noise."""
    field = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(4, 96, 128)), (0, 3, 3))
    noise = np.random.default_rng(4).normal(scale=8, size=field.shape)
    return (128 + 45 * field / field.std() + noise).clip(20, 235)


@pytest.mark.parametrize(
    ("written", "read", "correction"),
    [
        ("u1", "i1", "view('uint8')"),
        ("i1", "u1", "view('int8')"),
        ("u2", "i2", "view('uint16')"),
        ("i2", "u2", "view('int16')"),
        ("<u2", ">u2", "byteswap()"),
        (">i2", "<u2", "byteswap().view('int16')"),
    ],
)
def test_values_read_in_the_wrong_type(greys, written, read, correction):
    """Named with what corrects them; in their own type they pass."""
    dtype = np.dtype(written)
    values = (greys - 128 * (dtype.kind == "i")) * (1 if dtype.itemsize == 1 else 231)
    values = values.astype(dtype)
    assert list(check_stored_type("em", list(values))) == []
    assert f"dualrel_jax.open_volume('em')[:].{correction})." in said(values.view(read))


@pytest.mark.parametrize("kind", ["noise", "swapped real numbers"])
def test_neighbours_that_are_unrelated(greys, kind):
    noise = np.random.default_rng(5).integers(0, 256, greys.shape, np.uint8)
    values = noise if kind == "noise" else greys.astype(np.float32).byteswap()
    assert said(values).startswith("Neighbouring pixels of em are unrelated (they correlate by ")


@pytest.mark.parametrize("shape", ["twice as wide", "twice as high"])
@pytest.mark.parametrize("factor", [1, 16, 250])  # 8 bits in 16, 12 and 16 bits
@pytest.mark.parametrize("read", ["<u2 u1", ">u2 u1", "<i2 i1", "<u4 u2"])
def test_values_read_as_twice_as_many_of_half_the_bits(greys, read, factor, shape):
    written, stored = read.split()
    fine = greys + np.random.default_rng(0).random(greys.shape)
    values = (fine * factor * (256 ** (np.dtype(stored).itemsize - 1)) * (1 if written[1] == "u" else 0.5)).astype(
        written
    )
    pixels = values.view(stored)
    if shape == "twice as high":
        pixels = pixels.reshape(len(pixels), 2 * pixels.shape[1], -1)
    (finding,) = check_stored_type("em", list(pixels))
    assert finding.look and f"hold values of {8 * values.dtype.itemsize} bits, and is read as" in finding.text
    assert list(check_stored_type("em", list(values.astype(values.dtype.newbyteorder("="))))) == []


def test_columns_of_another_gain_are_no_wrong_type(greys):
    greys = greys.copy()
    greys[..., ::2] = greys[..., ::2] // 2 + 40
    assert list(check_stored_type("em", list(greys))) == []


@pytest.mark.parametrize(("dtype", "extreme"), [("uint16", 65535), ("int16", -32768), ("float32", np.nan)])
def test_a_few_extreme_pixels_are_no_wrong_type(greys, dtype, extreme):
    few = np.random.default_rng(6).random(greys.shape) < 1e-4
    assert list(check_stored_type("em", list(np.where(few, extreme, greys).astype(dtype)))) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("extreme", [np.nan, np.inf, -1e32])
def test_extreme_pixels_lead_to_no_warning_of_numpy(tissue, extreme):
    array = tissue.astype(np.float32)
    array[:, ::7, ::5] = extreme
    said(array)


def test_a_probability_is_named_as_what_it_is(tissue):
    field = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=tissue.shape), (0, 8, 8))
    probability = 1 / (1 + np.exp(6 - 6 * field / field.std()))
    for array in (np.rint(255 * probability).astype(np.uint8), probability.round(2).astype(np.float32)):
        assert said(array).startswith("em looks like a probability that was predicted, not like an image")
        assert "inverted" not in said(array)
    framed = np.pad(tissue, ((0, 0), (40, 40), (40, 40)))
    dark = (tissue // 8).astype(np.uint8)
    assert said(framed) == said(dark) == ""


def test_numbered_objects_are_no_probability(tissue):
    field = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=tissue.shape), (0, 8, 8))
    numbers = ndimage.label(field > field.std())[0]
    named = [finding.text for finding in check_probability(Volume.from_array(numbers.astype(np.uint8), name="ids"))]
    assert any(text.startswith("ids looks like numbered objects, not like a probability") for text in named)
    steep = 1 / (1 + np.exp(30 - 30 * field / field.std()))
    for probability in (steep, field > field.std()):
        stored = Volume.from_array(np.rint(255.0 * probability).astype(np.uint8), name="p")
        assert not any("numbered" in finding.text for finding in check_probability(stored))


@pytest.mark.parametrize("grey", [0, 255, 150])
@pytest.mark.parametrize("shape", ["frame", "rotated", "aligned"])
def test_padding_has_no_say_on_contrast(tissue, shape, grey):
    def padded(image):
        if shape == "frame":
            return np.pad(image, ((0, 0), (20, 20), (20, 20)), constant_values=grey)
        if shape == "rotated":
            return ndimage.rotate(image, 12, (1, 2), order=1, cval=grey)
        return np.stack(
            [np.pad(one, ((3 * z, 18 - 3 * z), (0, 9)), constant_values=grey) for z, one in enumerate(image)]
        )

    assert said(padded(tissue)) == ""
    assert "em seems inverted" in said(padded(255 - tissue))


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ([0, 1, 2, 3, 4, 5], None),
        ([7, 17, 27, 37, 47, 57], None),
        ([0, 1, 2, 4, 5, 6], "Number 3 is missing between the files of "),
        ([0, 10, 20, 40, 50, 60], "Number 30 is missing between the files of "),
        ([0, 1, 3, 4, 5, 9], "Numbers 2, 6, 7, 8 are missing between the files of "),
        (
            [0, 1, 3, 9, 10, 10**24],
            f"Numbers 2, 4, 5, 6, 7 and {10**24 - 11 + 1} more are missing between the files of ",
        ),
    ],
)
def test_gaps_in_a_folder_of_slices(tissue, tmp_path, numbers, wanted):
    for number, image in zip(numbers, tissue, strict=True):
        Image.fromarray(image).save(tmp_path / f"em_{number:04d}.png")
    volume = open_volume(tmp_path, verbose=False)
    text = said(volume)
    assert (wanted in text and "masks" not in text) if wanted else text == ""
    if wanted:
        assert "name masks by the numbers" in " ".join(f.text for f in check_volume(volume, range(6), labelled=True))


def test_a_file_without_a_number_hides_no_gap(tissue, tmp_path):
    for name, image in zip(("average", "s_0", "s_1", "s_3", "s_4", "s_5"), tissue, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    text = said(open_volume(tmp_path, verbose=False))
    assert "/average.png has no number, but 5 others do" in text and "move away what is no slice" in text
    assert "Number 2 is missing" in text
