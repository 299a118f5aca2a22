"""The ONNX graph computes what the Flax U-Net computes, for every kind of network."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dualrel_jax.data.pipeline.augment import to_float
from dualrel_jax.methods.base import unet
from dualrel_jax.packaging.onnx_graph import unet_graph


@pytest.mark.parametrize(("norm", "stem", "depth"), [("group", 4, 3), ("batch", 1, 2), ("group", 1, 1)])
def test_the_graph_agrees_with_the_network(norm, stem, depth):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = ConfigDict({"width": 6, "depth": depth, "norm": norm, "dtype": "float32", "stem": stem})
    network, rng = unet(model), np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 32, 48), np.uint8)
    shapes = jax.eval_shape(network.init, jax.random.key(0), to_float(images))
    # Random values everywhere, so that scales, offsets and statistics count; those of variance above 0.
    variables = jax.tree.map(lambda x: np.float32(rng.uniform(0.1, 0.5, x.shape) * rng.choice([1, 1.5])), shapes)
    variables["params"] = jax.tree.map(lambda x: x * np.sign(rng.normal(size=x.shape)), variables["params"])
    variables = jax.tree.map(np.float32, variables)
    expected = np.asarray(jax.nn.softmax(jax.jit(network.apply)(variables, to_float(images)).logits)[..., 1])
    session = runtime.InferenceSession(
        unet_graph(variables, model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (actual,) = session.run(None, {"image": images[:, None].astype(np.float32) / 255})
    assert actual.shape == (2, 1, 32, 48) and expected.std() > 1e-3
    np.testing.assert_allclose(actual[:, 0], expected, atol=1e-4)
