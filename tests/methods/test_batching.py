import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualrel_jax.methods import batching
from dualrel_jax.training import hlo
from dualrel_jax.utils import sharding


@pytest.mark.parametrize("sizes", [(5,), (4, 4), (8, 4, 4), (3, 5), (12, 8, 8, 4)])
def test_every_example_comes_back_in_its_place(sizes):
    parts = [jnp.asarray(1000 * k + np.arange(2 * n).reshape(n, 2)) for k, n in enumerate(sizes)]
    joined, part = batching.join(*parts)
    assert joined.shape == (sum(sizes), 2)
    for found, first, expected in zip(part(joined), part({"a": joined[:, 0]}), parts, strict=True):
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(first["a"], expected[:, 0])


def test_devices_keep_what_is_theirs():
    """4 devices, 8 and 4 examples: joined, computed and parted without a word between the devices."""
    mesh = sharding.create_mesh(4)

    def step(a, b):
        joined, part = batching.join(sharding.shard_batch(a, mesh), sharding.shard_batch(b, mesh))
        return [sharding.shard_batch(x, mesh) for x in part(jnp.sin(joined))]

    text = jax.jit(step).lower(jnp.ones((8, 3)), jnp.ones((4, 3))).compile().as_text()
    assert hlo.communication(text) == []


def test_batches_of_no_common_shape_are_refused():
    with pytest.raises(TypeError):
        batching.join(jnp.ones((4, 3)), jnp.ones((4, 2)))
