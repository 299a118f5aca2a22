"""Labels whose files state another voxel size or place than the image are named, and nothing else is."""

import dataclasses
import math

import numpy as np
import pytest

from dualrel_jax.data.datasets.geometry import differing_place
from dualrel_jax.data.io.volume import Volume

SIZE = (20.0, 5.0, 5.0)


def volume(name, stated=SIZE, origin=(0.0, 0.0, 0.0), slices=4, kind="zarr 3"):
    plain = Volume.from_array(np.zeros((slices, 8, 8), np.uint8), stated, name)
    return dataclasses.replace(plain, stated_nm=stated, origin_nm=origin, format=kind)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ({"stated": (40.0, 10.0, 10.0)}, "b states voxels of 40 x 10 x 10 nm (z y x), but a has 20 x 5 x 5 nm: check"),
        (
            {"origin": (0.0, 200.0, 300.0)},
            "b states that its first voxel lies at 0, 200, 300 nm (z y x), but that of a",
        ),
        ({"origin": (40.0, 0.0, 0.0)}, "lies at 0, 0, 0: check that both show the same place."),
        ({"origin": (10.0, 2.5, 2.5)}, ""),  # half a voxel: another corner is counted from
        ({"origin": (40.0, 0.0, 0.0), "slices": 2}, ""),  # labels of some slices
        ({"stated": (40.0, 5.0, 5.0), "slices": 2}, ""),
        ({"stated": (math.nan, 5.02, 5.0)}, ""),
        ({"stated": None}, ""),
        ({"stated": (1000.0, 1000.0, 1000.0)}, ""),  # written by programs that know none
        ({"origin": (0.0, 200.0, 300.0), "kind": "TIFF"}, ""),  # the corner of a box: the file has no place
    ],
)
def test_another_stated_place_or_size_is_named(label, said):
    sentence = differing_place(volume("a"), volume("b", **label))
    assert said in sentence and bool(said) == bool(sentence)


def test_the_size_that_the_user_states_or_that_of_the_file_will_do():
    image = dataclasses.replace(volume("a"), voxel_nm=(30.0, 8.0, 8.0))
    assert differing_place(image, volume("b")) == differing_place(image, volume("b", (30.0, 8.0, 8.0))) == ""
    assert differing_place(image, volume("b", origin=(0.0, 200.0, 300.0))) == ""  # in voxels of another size
    assert differing_place(volume("a", stated=None), volume("b")) == ""
    assert differing_place(volume("a", origin=(60.0, 5.0, 5.0)), volume("b", kind="TIFF")) == ""
