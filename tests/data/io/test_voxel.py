"""Units of length, and voxel sizes that electron microscopes have."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualrel_jax.data.io.voxel import check_likely, is_likely, unit_nm, voxel_of
from dualrel_jax.errors import InputError

UNITS = {
    1e-3: ["pm", "picometer"],
    0.1: ["angstrom", "Angstroms", "Å", "\u212b", "ångström", "A\u030a"],
    1.0: ["nm", "NM", "nanometer", "nanometers", "nanometre", "nanometres"],
    1e3: ["um", "µm", "\u03bcm", "\\u00B5m", "Âµm", "micron", "microns", "micrometer", "micrometre", "Micrometers"],
    1e6: ["mm", "millimeter"],
    1e9: ["m", "meter", "metres"],
}


@given(st.sampled_from([(length, name) for length, names in UNITS.items() for name in names]), st.booleans())
def test_units(unit, padded):
    length, name = unit
    assert unit_nm(f" {name} " if padded else name) == length


@pytest.mark.parametrize("unit", ["pixel", "pixels", "", "s", "second", None, "parsec", "voxel", 3])
def test_what_is_no_unit_of_length(unit):
    assert unit_nm(unit) is None


sizes = st.floats(1e-9, 1e9)


@given(sizes | st.just(math.nan), sizes, sizes)
def test_sizes_that_no_electron_microscope_has_are_refused(z, y, x):
    likely = all(0.5 <= size <= 100 for size in (y, x)) and (math.isnan(z) or 0.5 <= z <= 1000)
    assert is_likely((z, y, x)) == likely
    if likely:
        check_likely((z, y, x), "a.tif", "data.voxel_nm")
        return
    with pytest.raises(InputError, match="^a.tif states voxels of .*0.5 to 100 nm.*: set data.voxel_nm=z,y,x in nm"):
        check_likely((z, y, x), "a.tif", "data.voxel_nm")


def test_unknown_sizes():
    check_likely(None, "a.tif", "data.voxel_nm")
    assert voxel_of((30, 8, math.inf)) is voxel_of((30, 0, 8)) is voxel_of((30, math.nan, 8)) is None
    assert math.isnan(voxel_of((math.inf, 8, 8))[0])
