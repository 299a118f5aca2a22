"""Outputs that cannot be used are refused before the work for them begins."""

import os

import numpy as np
import pytest
import stores
import tifffile

from dualrel_jax.data.io import remote
from dualrel_jax.data.io.outputs import check_beside, check_output
from dualrel_jax.data.io.writers import check_outputs, open_writer
from dualrel_jax.errors import InputError


def write(path):
    with open_writer(path, (1, 2, 2), np.uint8) as writer:
        writer.write(0, np.zeros((2, 2), np.uint8))


def check(path):
    check_output(path, "predict.output", "volume", "/a.tif")


@pytest.mark.parametrize("name", ["mask.tif", "a/b/mask.zarr", "mask_10-30.tiff"])
def test_free_names_and_earlier_outputs_may_be_taken(tmp_path, name):
    path = tmp_path / name
    check(path)
    with open_writer(path, (1, 2, 2), np.uint8) as writer:
        writer.write(0, np.zeros((2, 2), np.uint8))
    path.with_name(f"{path.stem}.json").write_text('{"volume": "/a.tif"}')
    check(path)


def test_the_output_of_another_volume_stays(tmp_path):
    path = tmp_path / "mask.tif"
    path.with_suffix(".json").write_text('{"volume": "/b.tif"}')
    with pytest.raises(InputError, match=r"mask.tif, which is made from /b.tif; name another output \(-o\) for /a.tif"):
        check(path)


def test_what_lies_in_a_run_for_an_output_in_a_store_is_of_that_output_alone(endpoint, monkeypatch, tmp_path):
    stores.use(monkeypatch, endpoint)
    path = remote.as_place("s3://bucket/a//b/../mask.zarr").with_side(tmp_path)
    local = remote.beside(path)
    assert local == tmp_path / "s3/bucket/a/b/mask.zarr"
    local.parent.mkdir(parents=True)
    local.with_suffix(".json").write_text('{"volume": "/a.tif", "output": "s3://bucket/a//b/../mask.zarr"}')
    check(path)
    with pytest.raises(InputError, match="mask.json is the record of s3://bucket/a//b/../mask.zarr; choose another"):
        check(remote.as_place("s3://bucket/a/b/mask.zarr").with_side(tmp_path))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.h5:raw.tif", "an array inside a file"),
        ("a.zarr:0.tif", "an array inside a file"),
        ("mask.png", r"no type that can be written; expected a name that ends in \.tif"),
        ("mask", "no type that can be written"),
        ("folder.tif", "is a folder"),
        ("foreign.zarr", "did not write"),
        ("file.zarr", "is a file"),
        ("em.tif/mask.tif", "below .*em.tif, a file"),
        ("config.tif", "config.json would be overwritten"),
        ("em.tif", "is a file that dualrel_jax did not write"),
        ("photo.tif", "is a file that dualrel_jax did not write"),
    ],
)
def test_what_cannot_be_used_is_explained(tmp_path, name, said):
    for folder in ("folder.tif", "foreign.zarr"):
        (tmp_path / folder).mkdir()
    for file in ("em.tif", "file.zarr"):
        (tmp_path / file).touch()
    (tmp_path / "config.json").write_text('{"seed": 0}')
    tifffile.imwrite(tmp_path / "photo.tif", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(InputError, match=rf"config.predict.output.*{said}.*choose another name"):
        check(tmp_path / name)


@pytest.mark.parametrize("inside", ["mask.zarr", "mask.zarr/0"])
def test_the_array_that_is_read_is_not_replaced_by_its_group(tmp_path, inside):
    path = tmp_path / "mask.zarr"
    write(path)
    with pytest.raises(InputError, match="the volume itself"):
        check_outputs([path], [tmp_path / inside], "config.predict.output")


def test_tables_of_another_origin_are_not_overwritten(tmp_path):
    output, table = tmp_path / "mask.tif", tmp_path / "mask.csv"
    check_beside(output, [table], "instances.output")
    table.write_text("measured by hand")
    with pytest.raises(InputError, match=r"would overwrite mask\.csv, a file of another origin; expected"):
        check_beside(output, [table], "instances.output")
    write(output)  # an earlier output of this package, to which the table belongs
    check_beside(output, [table], "instances.output")


def test_two_volumes_do_not_share_a_record(tmp_path):
    (tmp_path / "mask.json").write_text('{"volume": "/a.tif"}')
    check(tmp_path / "mask.zarr")  # the record of a volume that is gone
    write(tmp_path / "mask.tif")
    check(tmp_path / "mask.tif")
    with pytest.raises(InputError, match=r"mask\.json is the record of mask\.tif beside it; choose another name"):
        check(tmp_path / "mask.zarr")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_explained(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="where you may not write"):
        check(tmp_path / "a" / "mask.tif")
