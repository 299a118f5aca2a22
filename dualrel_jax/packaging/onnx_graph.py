"""The U-Net as an ONNX graph: the same layers and numbers as `models.unet`, channels first."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

OPSET, IR_VERSION = 17, 8  # of 2022: what older programs of the bioimage community run as well
_GROUPS = 8  # at most
_NORM_EPSILON = {"group": 1e-6, "batch": 1e-5}


class _Graph:
    """Nodes and weights, in the order in which they are added."""

    def __init__(self):
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output; -> the name of that."""
        from onnx import helper

        name = f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], name, **attributes))
        return name

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        from onnx import numpy_helper

        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
        return name

    def conv(self, x: str, params: Mapping[str, Any]) -> str:
        """A convolution of one step with padding; kernels are y x in out here, and out in y x in ONNX."""
        kernel = np.asarray(params["kernel"])
        pads = [(side - 1) // 2 for side in kernel.shape[:2]] * 2
        inputs = [self.constant(kernel.transpose(3, 2, 0, 1))]
        inputs += [self.constant(params["bias"])] if "bias" in params else []
        return self.add("Conv", x, *inputs, pads=pads)

    def norm(self, x: str, kind: str, params: Mapping[str, Any], statistics: Mapping[str, Any]) -> str:
        if kind == "batch":
            parts = [params["scale"], params["bias"], statistics["mean"], statistics["var"]]
            return self.add("BatchNormalization", x, *map(self.constant, parts), epsilon=_NORM_EPSILON[kind])
        channels = len(params["scale"])
        groups = math.gcd(_GROUPS, channels)
        # Group normalisation is instance normalisation of the groups, each as one channel.
        grouped = self.add("Reshape", x, self.constant([0, groups, -1], np.int64))
        ones, zeros = self.constant(np.ones(groups)), self.constant(np.zeros(groups))
        normed = self.add("InstanceNormalization", grouped, ones, zeros, epsilon=_NORM_EPSILON[kind])
        back = self.add("Reshape", normed, self.add("Shape", x))
        scale, bias = (self.constant(np.reshape(params[name], (channels, 1, 1))) for name in ("scale", "bias"))
        return self.add("Add", self.add("Mul", back, scale), bias)

    def block(self, x: str, kind: str, params: Mapping[str, Any], statistics: Mapping[str, Any]) -> str:
        """`unet.ConvBlock`."""
        layer = {"batch": "BatchNorm", "group": "GroupNorm"}[kind]
        for i in range(2):
            x = self.conv(x, params[f"Conv_{i}"])
            x = self.norm(x, kind, params[f"{layer}_{i}"], statistics.get(f"{layer}_{i}", {}))
            x = self.add("Relu", x)
        return x


def unet_graph(unet: Mapping[str, Any], model: ConfigDict) -> Any:
    """The onnx.ModelProto of grey values `b c y x`, 0 to 1 -> probability of mitochondrion `b c y x`, c = 1.

    Args:
        unet: collections of the U-Net, "params" and "batch_stats" where it has any, each with "encoder" and "decoder".
        model: its config.

    The image becomes 8 bit first, as `predict` sees it. y and x are any multiples of the network's cells. Everything
    is computed in float32, whatever `model.dtype`.
    """
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    params, statistics = unet["params"], unet.get("batch_stats", {})
    x = graph.add("Clip", "image", graph.constant(0), graph.constant(1))
    x = graph.add("Round", graph.add("Mul", x, graph.constant(255)))
    x = graph.add("Mul", graph.add("Sub", x, graph.constant(127.5)), graph.constant(4 / 255))
    if model.stem > 1:
        x = graph.add("SpaceToDepth", x, blocksize=model.stem)
    levels = []
    for level in range(model.depth):
        if level:
            x = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        name = f"ConvBlock_{level}"
        x = graph.block(x, model.norm, params["encoder"][name], statistics.get("encoder", {}).get(name, {}))
        levels.append(x)
    decoder = params["decoder"]
    twice = graph.constant([1, 1, 2, 2])
    for i, skip in enumerate(reversed(levels[:-1])):
        x = graph.conv(x, decoder[f"Conv_{i}"])
        x = graph.add("Resize", x, "", twice, mode="nearest", coordinate_transformation_mode="asymmetric",
                      nearest_mode="floor")  # fmt: skip
        name = f"ConvBlock_{i}"
        x = graph.add("Concat", skip, x, axis=1)
        x = graph.block(x, model.norm, decoder[name], statistics.get("decoder", {}).get(name, {}))
    x = graph.conv(x, decoder[f"Conv_{model.depth - 1}"])
    if model.stem > 1:
        x = graph.add("DepthToSpace", x, blocksize=model.stem, mode="CRD")
    x = graph.add("Softmax", x, axis=1)
    graph.nodes[-1].output[0] = "classes"
    bounds = (graph.constant([at], np.int64) for at in (1, 2, 1))
    graph.nodes.append(helper.make_node("Slice", ["classes", *bounds], ["probability"], "mitochondrion"))
    image, probability = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, "y", "x"])
        for name in ("image", "probability")
    )
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "dualrel_jax_unet", [image], [probability], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="dualrel_jax",
    )
    checker.check_model(proto, full_check=True)
    return proto
