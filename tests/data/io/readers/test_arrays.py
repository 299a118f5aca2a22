"""HDF5: axes by axistags, labels and scales, voxel sizes, links, filters."""

import itertools
import json

import h5py
import numpy as np
import pytest

from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError

EM = np.random.default_rng(0).integers(0, 255, (4, 12, 16), np.uint8)
ORDERS = ["".join(order) for order in itertools.permutations("zyx")]


def in_order(order):
    """EM with these axes, those that it has not of length 1."""
    array = EM.transpose(["zyx".index(axis) for axis in order if axis in "zyx"])
    return array.reshape([EM.shape["zyx".index(axis)] if axis in "zyx" else 1 for axis in order])


def tag(data, order, **more):
    axes = [{"key": axis, "typeFlags": 2, "resolution": 0, "description": "", **more.get(axis, {})} for axis in order]
    data.attrs["axistags"] = json.dumps({"axes": axes})


def check(path, voxel_nm=None):
    volume = open_volume(path, verbose=False)
    np.testing.assert_array_equal(volume[:], EM)
    assert volume.voxel_nm == (voxel_nm and pytest.approx(voxel_nm))


@pytest.mark.parametrize("order", [*ORDERS, "tzyxc", "cxyzt", "xyzc"])
def test_axes_as_they_are_stated(tmp_path, order):
    sizes = {"z": 0.03, "y": 0.01, "x": 0.008}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        tag(file.create_dataset("tags", data=in_order(order)), order)
        tag(file.create_dataset("sizes", data=in_order(order)), order,
            **{axis: {"resolution": size, "unit": "µm"} for axis, size in sizes.items()})  # fmt: skip
        fiji = file.create_dataset("fiji", data=in_order(order))
        tag(fiji, order)
        fiji.attrs["element_size_um"] = list(sizes.values())
        labelled = file.create_dataset("labels", data=in_order(order))
        scaled = file.create_dataset("scales", data=in_order(order))
        for axis, name in enumerate(order):
            labelled.dims[axis].label = name
            file[f"axis/{name}"] = np.arange(scaled.shape[axis])
            file[f"axis/{name}"].make_scale(name)
            scaled.dims[axis].attach_scale(file[f"axis/{name}"])
    for name in ("tags", "labels", "scales"):
        check(tmp_path / f"a.h5:{name}")
    for name in ("sizes", "fiji"):
        check(tmp_path / f"a.h5:{name}", (30, 10, 8))


@pytest.mark.parametrize(
    ("axistags", "message"),
    [
        ("xyz", "axistags cannot be read"),
        ('{"axes": []}', "name 0 axes .* but it has 3"),
        ('{"axes": [{"key": "t"}, {"key": "z"}, {"key": "x"}]}', "with the axes t z x; expected one stack"),
    ],
)
def test_axistags_that_fit_nothing(tmp_path, axistags, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("em", data=EM).attrs["axistags"] = axistags
    with pytest.raises(InputError, match=rf"a\.h5:em: .*{message}"):
        open_volume(tmp_path / "a.h5")


def test_axistags_against_labels(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("em", data=EM)
        tag(data, "xyz")
        for axis, name in enumerate("zyx"):
            data.dims[axis].label = name
    with pytest.raises(InputError, match="name different axes"):
        open_volume(tmp_path / "a.h5")


def test_levels_as_n5_programs_write_them(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["em/s0"], file["em/s1"] = EM, EM[:, ::2, ::2]
        file["em"].attrs["pixelResolution"] = json.dumps({"unit": "nm", "dimensions": [8, 10, 30]})
        file["em/s1"].attrs["downsamplingFactors"] = [2, 2, 1]
    check(tmp_path / "a.h5:em/s0", (30, 10, 8))
    assert open_volume(tmp_path / "a.h5/em/s1").voxel_nm == (30, 20, 16)


def test_links_are_followed(tmp_path):
    with h5py.File(tmp_path / "target.h5", "w") as file:
        file["raw/em"] = EM
        file["raw/soft"] = h5py.SoftLink("/raw/em")
        file["raw/circle"] = h5py.SoftLink("/raw")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["em"] = h5py.ExternalLink("target.h5", "raw/em")
        file["lost"] = h5py.ExternalLink("gone.h5", "raw/em")
        file["dangling"] = h5py.SoftLink("/nothing")
        file["group"] = h5py.ExternalLink("target.h5", "raw")
    (tmp_path / "symbolic.h5").symlink_to(tmp_path / "target.h5")
    names = "target.h5:raw/soft", "link.h5:em", "link.h5:group/em", "symbolic.h5:raw/em", "target.h5:raw/circle/em"
    for name in names:
        check(tmp_path / name)
    with pytest.raises(InputError, match=r"link\.h5:lost: is a link to gone\.h5:raw/em, which cannot be read"):
        open_volume(tmp_path / "link.h5:lost")
    with pytest.raises(InputError, match=r"link\.h5:dangling: is a link to /nothing"):
        open_volume(tmp_path / "link.h5:dangling")


def test_a_virtual_data_set_of_which_a_file_is_missing(tmp_path):
    layout = h5py.VirtualLayout(EM.shape, EM.dtype)
    for i in range(2):
        with h5py.File(tmp_path / f"part{i}.h5", "w") as file:
            file["em"] = EM[2 * i : 2 * i + 2]
        layout[2 * i : 2 * i + 2] = h5py.VirtualSource(f"part{i}.h5", "em", (2, 12, 16))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("em", layout)
    check(tmp_path / "a.h5")
    (tmp_path / "part1.h5").unlink()
    with pytest.raises(InputError, match=r"a\.h5:em: is put together from files of which part1\.h5 is missing"):
        open_volume(tmp_path / "a.h5")


def test_one_name_inside_whatever_the_program(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/em"], file["table"] = EM, np.arange(5)
    for name in ("a.h5", "a.h5:volumes/em", "a.h5:/volumes/em", "a.h5/volumes/em", "a.h5:volumes"):
        check(tmp_path / name)
    with h5py.File(tmp_path / "five.h5", "w") as file:
        file["exported_data"] = EM[None, ..., None]
    check(tmp_path / "five.h5")


def test_filters_that_need_another_package(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("em", data=EM, compression="gzip")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    with pytest.raises(InputError, match=r"no decoder for its compression .*HDF5 filter 1.*`pip install hdf5plugin`"):
        open_volume(tmp_path / "a.h5")
