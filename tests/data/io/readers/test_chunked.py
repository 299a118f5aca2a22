"""zarr and n5: axes, the voxel size of the level that is opened, names inside, links, codecs."""

import itertools
import json
import sys

import numpy as np
import pytest
import tensorstore as ts

from dualrel_jax.data.io.pyramid import LevelChoice
from dualrel_jax.data.io.readers import chunked
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError

EM = np.random.default_rng(0).integers(0, 255, (4, 12, 16), np.uint8)
ORDERS = ["".join(order) for order in itertools.permutations("zyx")]


def write(path, array, driver, **metadata):
    """An array in the order it is given; n5 stores its reverse."""
    array = array.T if driver == "n5" else array
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
    ts.open(spec, create=True, dtype=array.dtype, shape=array.shape).result().write(array).result()


def note(path, **attributes):
    """Adds attributes to a JSON file."""
    before = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(before | attributes))


def opened(path):
    return open_volume(path, verbose=False)


def in_order(order, array=EM):
    return array.transpose(["zyx".index(axis) for axis in order])


def check(path, voxel_nm, array=EM):
    volume = opened(path)
    np.testing.assert_array_equal(volume[:], array)
    assert volume.voxel_nm == (voxel_nm and pytest.approx(voxel_nm, nan_ok=True))


def ome(path, order, driver="zarr", unit="nanometer", whole=None, extra="", factor=1.0):
    """An OME-Zarr of two levels; `whole`: the scale of all levels, that of each level being its factor then."""
    axes = [{"name": axis, "type": "time" if axis == "t" else "channel"} for axis in extra]
    axes += [{"name": axis, "type": "space", "unit": unit} for axis in order]
    levels = []
    for i in range(2):
        array = in_order(order, EM[:, :: 2**i, :: 2**i])
        write(path / str(i), array.reshape((1,) * len(extra) + array.shape), driver)
        size = {"z": 30.0 * factor, "y": 10.0 * factor * 2**i, "x": 8.0 * factor * 2**i}
        if whole:
            size = {"z": 1.0, "y": 2.0**i, "x": 2.0**i}
        scale = [1.0] * len(extra) + [size[axis] for axis in order]
        levels.append({"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    image = {"version": "0.4", "axes": axes, "datasets": levels}
    if whole:
        scale = [1.0] * len(extra) + [whole["zyx".index(axis)] for axis in order]
        image["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    if driver == "zarr":
        note(path / ".zgroup", zarr_format=2)
        note(path / ".zattrs", multiscales=[image])
    else:
        note(path / "zarr.json", zarr_format=3, node_type="group", attributes={"ome": {"multiscales": [image]}})


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
@pytest.mark.parametrize("order", ORDERS)
def test_ome_zarr_in_any_order_of_axes(tmp_path, driver, order):
    ome(tmp_path / "a.zarr", order, driver, extra="tc")
    check(tmp_path / "a.zarr", (30, 10, 8))
    for name in ("a.zarr/1", "a.zarr:1", "a.zarr:/1/"):
        check(tmp_path / name, (30, 20, 16), EM[:, ::2, ::2])


@pytest.mark.parametrize(
    ("unit", "factor"), [("micrometer", 1e-3), ("angstrom", 10), ("meter", 1e-9), ("millimetre", 1e-6), ("nm", 1)]
)
def test_units_of_ome_zarr(tmp_path, unit, factor):
    ome(tmp_path / "a.zarr", "zyx", unit=unit, factor=factor)
    check(tmp_path / "a.zarr:0", (30, 10, 8))


def test_scale_of_all_levels_together(tmp_path):
    ome(tmp_path / "a.zarr", "xyz", whole=(30, 10, 8))
    check(tmp_path / "a.zarr:1", (30, 20, 16), EM[:, ::2, ::2])


@pytest.mark.parametrize("step", [{"type": "affine", "affine": [[1]]}, {"type": "translation", "translation": [0] * 3}])
def test_transformations_without_a_known_scale(tmp_path, step):
    ome(tmp_path / "a.zarr", "zyx")
    note(tmp_path / "a.zarr/.zattrs", multiscales=[{"axes": ["z", "y", "x"], "datasets": [
        {"path": "0", "coordinateTransformations": [step]}]}])  # fmt: skip
    check(tmp_path / "a.zarr", None)


def test_several_images_of_a_container_are_named(tmp_path):
    container = tmp_path / "bio.zarr"
    for name in ("0", "1"):
        ome(container / name, "zyx")
    note(container / "0/.zattrs", multiscales=[{"name": "overview", "datasets": [{"path": "0"}]}])
    note(container / ".zattrs", **{"bioformats2raw.layout": 3})
    with pytest.raises(InputError, match=r"bio\.zarr: holds 2 images.*bio\.zarr:NAME; .* 0 \(overview\), 1$"):
        opened(container)
    check(f"{container}:1", (30, 10, 8))
    note(container / "OME/.zattrs", series=["1"])  # 0 is no image of the series
    check(container, (30, 10, 8))


def test_levels_that_a_link_or_a_container_of_series_leads_to(tmp_path):
    ome(tmp_path / "bio.zarr/0", "zyx")  # as bioformats2raw writes it
    note(tmp_path / "bio.zarr/.zgroup", zarr_format=2)
    note(tmp_path / "bio.zarr/.zattrs", **{"bioformats2raw.layout": 3})
    check(tmp_path / "bio.zarr", (30, 10, 8))
    (tmp_path / "half.zarr").symlink_to(tmp_path / "bio.zarr/0/1")
    check(tmp_path / "half.zarr", (30, 20, 16), EM[:, ::2, ::2])
    (tmp_path / "whole").symlink_to(tmp_path / "bio.zarr")
    check(tmp_path / "whole", (30, 10, 8))
    (tmp_path / "bio.zarr/0/again").symlink_to(tmp_path / "bio.zarr")  # a circle
    check(tmp_path / "bio.zarr", (30, 10, 8))
    (tmp_path / "gone.zarr").symlink_to(tmp_path / "lost.zarr")
    with pytest.raises(InputError, match=r"gone\.zarr: is a link to .*lost\.zarr, which does not exist"):
        opened(tmp_path / "gone.zarr")


def change_scale(scale):
    def change(images):
        images[0]["datasets"][0]["coordinateTransformations"][0]["scale"] = scale

    return change


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_scale([5, 5]), r"datasets\[0\].coordinateTransformations\[0\].scale is \[5, 5\]; expected 3 numbers"),
        (change_scale(["5"] * 3), r'scale is \["5", "5", "5"\]; expected 3 numbers'),
        (lambda images: images[0]["datasets"][0].pop("path"), r"datasets\[0\].path is nothing; expected a text"),
        (lambda images: images[0], r' is {"version": .*\.\.\.; expected a list'),
        (lambda images: ["em"], r'\[0\] is "em"; expected an object'),
    ],
)
def test_multiscales_that_are_not_those_of_ome_zarr(tmp_path, driver, change, said):
    ome(tmp_path, "zyx", driver)
    file = tmp_path / (".zattrs" if driver == "zarr" else "zarr.json")
    content = json.loads(file.read_text())
    holder = content if driver == "zarr" else content["attributes"]["ome"]
    changed = change(holder["multiscales"])
    holder["multiscales"] = changed if isinstance(changed, dict | list) else holder["multiscales"]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"{file}: multiscales.*{said}"):
        opened(tmp_path)


@pytest.mark.parametrize(("content", "said"), [('{"multiscales": [', "cannot be read as JSON"), ("[]", "the file is")])
def test_attributes_that_are_no_json_object(tmp_path, content, said):
    ome(tmp_path, "zyx")
    (tmp_path / ".zattrs").write_text(content)
    with pytest.raises(InputError, match=f"{tmp_path}/.zattrs: {said}"):
        opened(tmp_path)


def test_a_byte_order_mark_and_paths_from_here(tmp_path):
    ome(tmp_path, "zyx")
    file = tmp_path / ".zattrs"
    images = json.loads(file.read_text())["multiscales"]
    for level in images[0]["datasets"]:
        level["path"] = f"./{level['path']}/"
    file.write_text(json.dumps({"multiscales": images}), encoding="utf-8-sig")
    check(tmp_path, (30, 10, 8))
    assert open_volume(tmp_path, choice=LevelChoice("1")).voxel_nm == (30, 20, 16)


@pytest.mark.parametrize("order", ORDERS)
def test_dimension_names(tmp_path, order):
    write(tmp_path / "3.zarr", in_order(order), "zarr3", dimension_names=list(order))
    write(tmp_path / "xarray.zarr", in_order(order), "zarr")
    note(tmp_path / "xarray.zarr/.zattrs", _ARRAY_DIMENSIONS=list(order))
    sizes = [{"z": 40, "y": 8, "x": 4}[axis] for axis in order]
    write(tmp_path / "funlib.zarr", in_order(order)[None], "zarr")
    note(tmp_path / "funlib.zarr/.zattrs", axis_names=["c^", *order], voxel_size=sizes, units=["nm"] * 3)
    write(tmp_path / "neuroglancer.n5", in_order(order), "n5", axes=list(order[::-1]), units=["m"] * 3,
          resolution=[size * 1e-9 for size in sizes[::-1]])  # fmt: skip
    check(tmp_path / "3.zarr", None)
    check(tmp_path / "xarray.zarr", None)
    check(tmp_path / "funlib.zarr", (40, 8, 4))
    check(tmp_path / "neuroglancer.n5", (40, 8, 4))


def test_names_that_contradict_each_other_or_are_none(tmp_path):
    write(tmp_path / "a.zarr", EM, "zarr3", dimension_names=["x", "y", "z"], attributes={"axis_names": ["z", "y", "x"]})
    with pytest.raises(InputError, match=r"a\.zarr: states its axes as x y z and as z y x; expected one order"):
        opened(tmp_path / "a.zarr")
    write(tmp_path / "time.zarr", EM, "zarr3", dimension_names=["t", "z", "x"])
    with pytest.raises(InputError, match=r"time\.zarr: is 3-D .* with the axes t z x; expected one stack"):
        opened(tmp_path / "time.zarr")
    write(tmp_path / "none.zarr", EM, "zarr3", dimension_names=[None, None, None])
    check(tmp_path / "none.zarr", None)


SIZES = {"unit": "nm", "dimensions": [8, 10, 30]}  # x y z
PYRAMIDS = {  # attributes of the group, of s1
    "N5 Viewer, of each level": ({"pixelResolution": SIZES}, {"downsamplingFactors": [2, 2, 1]}),
    "N5 Viewer, listed": ({"pixelResolution": SIZES, "scales": [[1, 1, 1], [2, 2, 1]]}, {}),
    "N5 exporter": ({}, {"pixelResolution": SIZES, "downsamplingFactors": [2, 2, 1]}),
    "Paintera": ({"resolution": [8, 10, 30], "downsamplingFactors": [[1, 1, 1], [2, 2, 1]]}, {}),
    "by the shapes": ({"pixelResolution": SIZES}, {}),
    "its own size": ({"scales": [[1, 1, 1], [2, 2, 1]]}, {"pixelResolution": {**SIZES, "dimensions": [16, 20, 30]}}),
    "COSEM": ({}, {"transform": {"axes": ["z", "y", "x"], "scale": [30, 20, 16], "units": ["nm"] * 3},
                   "pixelResolution": {**SIZES, "dimensions": [1, 2, 3]}}),
    "COSEM, in the group": ({"multiscales": [{"datasets": [{"path": f"s{i}", "transform": {
        "axes": ["z", "y", "x"], "scale": [30, 10 * 2**i, 8 * 2**i], "units": ["nm"] * 3}} for i in range(2)]}]}, {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", PYRAMIDS)
def test_the_size_of_a_level_of_n5(tmp_path, kind):
    group, level = PYRAMIDS[kind]
    write(tmp_path / "a.n5/em/s0", EM, "n5")
    write(tmp_path / "a.n5/em/s1", EM[:, ::2, ::2], "n5")
    note(tmp_path / "a.n5/attributes.json", n5="2.5.0")
    note(tmp_path / "a.n5/em/attributes.json", **group)
    note(tmp_path / "a.n5/em/s1/attributes.json", **level)
    for name in ("a.n5:em/s1", "a.n5/em/s1", "a.n5/em:s1"):
        check(tmp_path / name, (30, 20, 16), EM[:, ::2, ::2])
    np.testing.assert_array_equal(opened(tmp_path / "a.n5")[:], EM)  # level 0


@pytest.mark.parametrize(
    "sizes",
    [
        [8, 8, 30],
        [30, 8, 8],
        [0.008, 0.008, 0.03],
        {"dimensions": [8, 8, 30]},
        {"dimensions": [80, 80, 300], "unit": "Å"},
    ],
)
def test_sizes_without_a_unit_or_in_the_order_of_python(tmp_path, sizes):
    write(tmp_path / "a.n5", EM, "n5")
    note(tmp_path / "a.n5/attributes.json", pixelResolution=sizes)
    check(tmp_path / "a.n5", (30, 8, 8))


def test_names_inside_that_do_not_exist(tmp_path):
    write(tmp_path / "a.n5/em", EM, "n5")
    write(tmp_path / "a.n5/other", EM, "n5")
    for name, problem in (("a.n5", "holds 2 arrays"), ("a.n5:lost", "has no array lost")):
        with pytest.raises(InputError, match=rf"a\.n5: {problem}.* name it as .*a\.n5:NAME; the folder has em, other"):
            opened(tmp_path / name)
    with pytest.raises(InputError, match=r"lost\.n5: does not exist"):
        opened(tmp_path / "lost.n5:em")


@pytest.mark.parametrize("compressor", [{"id": "lz4"}, {"id": "lzma"}])
def test_codecs_that_need_another_package(tmp_path, monkeypatch, compressor):
    monkeypatch.setitem(sys.modules, "zarr", None)  # not installed
    write(tmp_path / "a.zarr", EM, "zarr")
    note(tmp_path / "a.zarr/.zarray", compressor=compressor)
    with pytest.raises(InputError, match=rf"no decoder for its compression {compressor['id']} .*`pip install zarr`"):
        opened(tmp_path / "a.zarr")
    write(tmp_path / "a.n5", EM, "n5")
    note(tmp_path / "a.n5/attributes.json", compression={"type": "lz4"})
    with pytest.raises(InputError, match="no decoder for its compression lz4 is known; .*save it again"):
        opened(tmp_path / "a.n5")


@pytest.mark.parametrize("order", ["zyx", "n5"])
def test_what_is_kept_of_chunks_grows_with_them(monkeypatch, tmp_path, order):
    """A slice touches at most 3 x 3 chunks of 16 x 32 x 32 bytes; were fewer kept, each slice would decode them."""
    driver = "n5" if order == "n5" else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{tmp_path}/a.{driver}/"}}
    fields = {
        "dimensions": [64, 64, 64],
        "blockSize": [32, 32, 16],
        "dataType": "uint8",
        "compression": {"type": "raw"},
    }
    if driver == "zarr":
        fields = {"shape": [64, 64, 64], "chunks": [16, 32, 32], "dtype": "|u1"}
    store = ts.open(spec | {"metadata": fields}, create=True).result()
    assert chunked._layer_bytes(store, driver) == 9 * 2**14
    monkeypatch.setattr(chunked, "_CACHED_SIDE", 32)
    assert chunked._layer_bytes(store, driver) == 4 * 2**14
