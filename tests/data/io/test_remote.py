"""Volumes in an S3 store and on web servers are read as local ones are; what goes wrong is one sentence."""

import time
from pathlib import Path

import numpy as np
import pytest
import stores

from dualrel_jax.data.io import remote
from dualrel_jax.data.io.remote import RemotePath, as_place, is_remote
from dualrel_jax.data.io.volume import open_volume, split_inner
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError

VOXEL = (10.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def array():
    return np.random.default_rng(0).integers(1, 255, (5, 300, 260), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, array):
    """Holds v.zarr, a pyramid of two levels."""
    folder = tmp_path_factory.mktemp("stores")
    with open_writer(folder / "v.zarr", array.shape, np.uint8, VOXEL, reduction="mean") as writer:
        for z, image in enumerate(array):
            writer.write(z, image)
    return folder


@pytest.fixture(scope="module")
def endpoint(folder):
    with stores.s3_server() as address, pytest.MonkeyPatch.context() as monkeypatch:
        stores.use(monkeypatch, address)
        stores.upload(folder / "v.zarr", "s3://bucket/em/v.zarr")
        yield address


@pytest.fixture
def s3(endpoint, monkeypatch):
    stores.use(monkeypatch, endpoint)
    monkeypatch.setitem(remote._FIRST, "initial_delay", "0.02s")
    remote._context.cache_clear()
    yield endpoint
    remote._context.cache_clear()


def refused(path, match):
    start = time.monotonic()
    with pytest.raises(InputError, match=match) as error:
        open_volume(path)
    assert time.monotonic() - start < 10
    assert "hidden-key" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["s3://bucket/em/v.zarr", Path("s3://bucket/em/v.zarr"), "s3://bucket/em/v.zarr/"])
def test_a_volume_in_a_bucket_is_read_as_a_local_one(s3, array, path):
    volume = open_volume(path)
    assert volume.path == "s3://bucket/em/v.zarr" and volume.voxel_nm == VOXEL
    np.testing.assert_array_equal(volume[2, 5:9, 7:30], array[2, 5:9, 7:30])
    assert open_volume("s3://bucket/em/v.zarr:1").shape == (5, 150, 130)
    assert open_volume("s3://bucket/em/v.zarr/1").path == "s3://bucket/em/v.zarr/1"


def test_a_volume_on_a_web_server_is_read_though_requests_fail_now_and_then(folder, array, s3):
    with stores.web_server(folder) as (address, faults):
        volume = open_volume(f"{address}/v.zarr")
        faults += ["drop", 503]
        np.testing.assert_array_equal(volume[0], array[0])
        assert not faults


def test_what_is_wrong_with_a_store_is_one_sentence(s3, folder, monkeypatch):
    refused("s3://bucket/em", "no zarr or n5 array")
    refused("s3://other/em/v.zarr", "no such bucket")
    refused("s3://", "names no bucket")
    refused("s3:///em/v.zarr", "names no bucket")
    refused("s3://someone:hidden-key@bucket/v.zarr", "a password")
    refused("https://host/v.zarr?X-Amz-Signature=hidden-key", "a query")
    with stores.web_server(folder, [403] * 99) as (address, _):
        refused(f"{address}/v.zarr", "forbids")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    refused("s3://bucket/em/v.zarr", "cannot be reached.*connect")


def test_a_store_that_goes_away_while_it_is_read_is_one_sentence(s3, folder, monkeypatch):
    monkeypatch.setitem(remote._LATER, "initial_delay", "0.02s")
    monkeypatch.setitem(remote._LATER, "max_delay", "0.05s")
    with stores.web_server(folder) as (address, faults):
        volume = open_volume(f"{address}/v.zarr")
        faults += [503] * 99
        with pytest.raises(InputError, match=r"v\.zarr, slice 3: cannot be reached \(it answers 503\)"):
            volume[3]


def test_paths_are_told_from_addresses():
    assert (
        is_remote("gs://a/b") and is_remote(Path("https://a/b")) and not is_remote("a/s3://b") and not is_remote("C:/a")
    )
    place = as_place("S3://bucket/a/b.zarr/")
    assert str(place) == "s3://bucket/a/b.zarr" and place.stem == "b" and place.suffix == ".zarr"
    assert place.with_name("c") == RemotePath.parse("s3://bucket/a/c") == place.parent / "c"
    assert split_inner("http://host:80/a.n5:em/s1") == (RemotePath.parse("http://host:80/a.n5"), "em/s1")
    assert place.is_relative_to(as_place("s3://bucket/a")) and not place.is_relative_to(as_place("s3://bucket/c"))
    assert str(place.relative_to(as_place("s3://bucket"))) == "a/b.zarr"
