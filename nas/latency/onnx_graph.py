"""The ONNX graph of a fused FastViT, written module by module instead of traced.

torch.onnx.export runs the network and then passes over what it saw; a search converts hundreds of
networks whose modules are known. The graph here has the same operators (GELU as its Erf form, which every
runtime fuses) and is checked against torch in the tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from fastvit import FastViT
from fastvit.blocks import FoldedAttention, FoldedPoolMixer, LayerNorm2d, Residual, SqueezeExcite

OPSET = 17  # everything needed is there, and every converter of the last years reads it
IR_VERSION = 8
INPUT, OUTPUT = "image", "logits"
STAGES = "stages"  # metadata: the values between stem, stages and head
_RANDOM = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)


def random_weights(shape: tuple[int, ...], fan_in: int, number: int) -> np.ndarray:
    """Weights for a network that is only timed: activations neither vanish (denormal numbers are slow) nor overflow.

    One short random sequence is repeated, because drawing 44 million numbers takes longer than timing MA36. Each
    tensor (`number`) begins elsewhere in it: converters store equal tensors once, and no deployed network has any.
    """
    count = int(np.prod(shape))
    return (np.resize(np.roll(_RANDOM, -number), count) * np.float32(0.7 / max(1, fan_in) ** 0.5)).reshape(shape)


class _Graph:
    """Nodes and initializers in the order of execution; values carry their channel count and grid."""

    def __init__(self, resolution: tuple[int, int]) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.grid = resolution
        self.marks: list[str] = []  # what comes out of the stem and of each stage

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weight(self, tensor: Tensor, fan_in: int) -> str:
        if tensor.is_meta:
            return self.constant(random_weights(tuple(tensor.shape), fan_in, len(self.initializers)))
        return self.constant(tensor.detach().cpu().numpy().astype(np.float32, copy=False))

    def add(self, module: nn.Module, x: str) -> str:
        """Append `module` applied to `x`; the name of its output.

        Raises:
            ValueError: the module is no part of a fused FastViT.
        """
        for kind, write in _WRITERS:
            if isinstance(module, kind):
                return write(self, module, x)
        raise ValueError(f"{type(module).__name__} is no part of a fused FastViT; call reparameterize(model) first")


def _sequential(g: _Graph, module: Any, x: str) -> str:
    for child in module:
        x = g.add(child, x)
    return x


def _conv(g: _Graph, module: Any, x: str) -> str:
    weight = module.weight
    fan_in = int(np.prod(weight.shape[1:]))
    inputs = [x, g.weight(weight, fan_in)]
    if module.bias is not None:
        inputs.append(g.weight(module.bias, 16))
    pad, stride = module.padding, module.stride
    kernel = tuple(weight.shape[2:])
    g.grid = tuple((side + 2 * p - k) // s + 1  # type: ignore[assignment]
                   for side, p, k, s in zip(g.grid, pad, kernel, stride, strict=True))
    return g.node("Conv", *inputs, kernel_shape=kernel, strides=stride, pads=[*pad, *pad], group=module.groups)


def _gelu(g: _Graph, module: Any, x: str) -> str:
    scaled = g.node("Div", x, g.constant(np.array(2**0.5, np.float32)))
    shifted = g.node("Add", g.node("Erf", scaled), g.constant(np.array(1, np.float32)))
    return g.node("Mul", g.node("Mul", x, shifted), g.constant(np.array(0.5, np.float32)))


def _squeeze_excite(g: _Graph, module: Any, x: str) -> str:
    gate = g.node("Relu", g.add(module.reduce, g.node("GlobalAveragePool", x)))
    gate = g.node("Sigmoid", g.add(module.expand, gate))
    return g.node("Mul", x, gate)


def _residual(g: _Graph, module: Any, x: str) -> str:
    return g.node("Add", x, g.add(module.inner, x))


def _attention(g: _Graph, module: Any, x: str) -> str:
    channels = module.proj.in_channels
    heads, (height, width) = channels // module.head_dim, g.grid
    tokens = g.constant(np.array([0, heads, module.head_dim, height * width], np.int64))
    qkv = g.add(module.qkv, x)
    names = [f"{qkv}_{part}" for part in "qkv"]
    split = g.constant(np.array([channels] * 3, np.int64))
    g.nodes.append(helper.make_node("Split", [qkv, split], names, name=f"{qkv}_split", axis=1))
    q, k, v = (g.node("Reshape", name, tokens) for name in names)  # (B, heads, d, N) each
    q, v = (g.node("Transpose", name, perm=[0, 1, 3, 2]) for name in (q, v))
    weights = g.node("Softmax", g.node("MatMul", q, k), axis=-1)  # (B, heads, N, N)
    out = g.node("Transpose", g.node("MatMul", weights, v), perm=[0, 1, 3, 2])
    maps = g.constant(np.array([0, channels, height, width], np.int64))
    return g.add(module.proj, g.node("Reshape", out, maps))


def _pool_mixer(g: _Graph, module: Any, x: str) -> str:
    side, pad = (value if isinstance(value, int) else value[0] for value in (module.pool.kernel_size,
                                                                             module.pool.padding))
    pooled = g.node("AveragePool", x, kernel_shape=[side, side], strides=[1, 1], pads=[pad] * 4, count_include_pad=0)
    return g.node("Add", x, g.node("Mul", g.node("Sub", pooled, x), g.weight(module.gain, 1)))


def _layer_norm(g: _Graph, module: Any, x: str) -> str:
    # Its gain and bias are inside the convolution that follows; the operator wants a gain all the same.
    ones = g.constant(np.ones(module.normalized_shape, np.float32))
    last = g.node("LayerNormalization", g.node("Transpose", x, perm=[0, 2, 3, 1]), ones, axis=-1, epsilon=module.eps)
    return g.node("Transpose", last, perm=[0, 3, 1, 2])


def _linear(g: _Graph, module: Any, x: str) -> str:
    return g.node("Gemm", x, g.weight(module.weight, module.in_features), g.weight(module.bias, 16), transB=1)


def _fastvit(g: _Graph, model: Any, x: str) -> str:
    x = g.add(model.stem, x)
    g.marks.append(x)
    for stage in model.stages:
        x = g.add(stage, x)
        g.marks.append(x)
    x = g.node("GlobalAveragePool", g.add(model.expand, x))
    return g.add(model.head, g.node("Flatten", x, axis=1))


_WRITERS: tuple[tuple[type, Any], ...] = (
    (FastViT, _fastvit), (nn.Sequential, _sequential), (nn.Conv2d, _conv), (nn.GELU, _gelu), (Residual, _residual),
    (FoldedAttention, _attention), (FoldedPoolMixer, _pool_mixer), (SqueezeExcite, _squeeze_excite),
    (LayerNorm2d, _layer_norm), (nn.Linear, _linear), (nn.Identity, lambda g, module, x: x))


def to_onnx(fused_model: nn.Module, resolution: int | tuple[int, int] = 256, batch: int = 1,
            dynamic_batch: bool = False) -> onnx.ModelProto:
    """The graph of a fused FastViT: "image" (B, in_channels, H, W) -> "logits" (B, num_classes), float32.

    Parameters on torch's meta device become random numbers: a network to be timed needs its shapes alone.

    Raises:
        ValueError: the model is not fused, or is no FastViT.
    """
    if not isinstance(fused_model, FastViT):
        raise ValueError(f"{type(fused_model).__name__} is no FastViT; its graph has to come from torch.onnx.export")
    grid = (resolution, resolution) if isinstance(resolution, int) else resolution
    graph = _Graph(grid)
    out = graph.add(fused_model, INPUT)
    graph.nodes.append(helper.make_node("Identity", [out], [OUTPUT], name="output"))
    size: int | str = "batch" if dynamic_batch else batch
    outputs = fused_model.num_classes or fused_model.num_features
    made = helper.make_graph(
        graph.nodes, "fastvit",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [size, fused_model.in_channels, *grid])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [size, outputs])], graph.initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                              producer_name="fastvit-explorer")
    helper.set_model_props(model, {STAGES: ",".join(graph.marks)})
    return model
