"""Devices that are not there."""

import jax
import pytest

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
