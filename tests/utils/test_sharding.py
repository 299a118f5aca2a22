"""Devices that are not there."""

import jax
import pytest
from ml_collections import ConfigDict

from dualrel_jax.errors import InputError
from dualrel_jax.utils import sharding


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'")])
def test_a_platform_that_is_not_there_is_named(error, monkeypatch):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(InputError, match="JAX_PLATFORMS is cuda, but JAX has no such device here .*unset it"):
        sharding.check_platform()
    monkeypatch.delenv("JAX_PLATFORMS")
    sharding.check_platform()


@pytest.mark.parametrize(
    ("batches", "unlabelled_too", "used"),
    [((4, 4), True, 4), ((3, 3), True, 3), ((6, 4), True, 2), ((6, 4), False, 3), ((5, 4), True, 1)],
)
def test_as_many_devices_train_as_can_share_the_batches(batches, unlabelled_too, used):
    train = ConfigDict({"devices": 0, "batch_labelled": batches[0], "batch_unlabelled": batches[1]})
    mesh = sharding.training_mesh(train, unlabelled_too)
    assert mesh.size == used
    assert bool(sharding.idle_devices(train, mesh)) == (used < 4)
    train.devices = 1  # as asked for
    assert not sharding.idle_devices(train, sharding.training_mesh(train, unlabelled_too))


def test_devices_are_those_of_host_after_host(monkeypatch):
    """A host's share of a batch is then one piece of it."""
    local = jax.devices()
    hosts = [1, 0, 1, 0]  # as on a ring of TPUs

    class Device:
        def __init__(self, device, host):
            self.id, self.process_index, self.device = device.id, host, device

    monkeypatch.setattr(jax, "devices", lambda: [Device(*pair) for pair in zip(local, hosts, strict=True)])
    monkeypatch.setattr(sharding, "Mesh", lambda devices, *args, **kwargs: devices)
    assert [device.process_index for device in sharding.create_mesh()] == [0, 0, 1, 1]
