"""Operations that combine several numbers: products, convolutions, reductions, pooling."""

import string
from dataclasses import replace
from typing import Any

import numpy as np
from jax.extend.mlir.dialects import stablehlo

from kdjax.nets.to_onnx.elementwise import BINARY
from kdjax.nets.to_onnx.graph import Graph, Unknown, Value, back, number, numbers, ordered, sizes

REDUCTIONS = {"add": "ReduceSum", "maximum": "ReduceMax", "minimum": "ReduceMin"}
IDENTITIES = {"add": 0.0, "maximum": -np.inf, "minimum": np.inf}


def dot(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    dims = stablehlo.DotDimensionNumbers(op.attributes["dot_dimension_numbers"])
    batch = list(dims.lhs_batching_dimensions), list(dims.rhs_batching_dimensions)
    summed = list(dims.lhs_contracting_dimensions), list(dims.rhs_contracting_dimensions)
    ranks = [len(value.shape) for value in inputs]
    left, right = (graph.full(value) for value in inputs)
    if not batch[0] and summed == ([ranks[0] - 1], [0]) and ranks[0] > 1 and ranks[1] == 2:
        return replace(out, name=graph.node("MatMul", left, right))
    letters = iter(string.ascii_lowercase)
    axes: tuple[dict[int, str], ...] = ({}, {})
    for pairs in (batch, summed):
        for first, second in zip(*pairs, strict=True):
            axes[0][first] = axes[1][second] = next(letters)
    for names, rank in zip(axes, ranks, strict=True):
        names |= {d: next(letters) for d in range(rank) if d not in names}
    terms = ["".join(n[d] for d in range(rank)) for n, rank in zip(axes, ranks, strict=True)]
    kept = "".join(axes[0][d] for d in batch[0])
    for term, names, b, s in zip(terms, axes, batch, summed, strict=True):
        kept += "".join(c for c in term if c not in {names[d] for d in (*b, *s)})
    equation = f"{terms[0]},{terms[1]}->{kept}"
    return replace(out, name=graph.node("Einsum", left, right, equation=equation))


def convolution(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    dims = stablehlo.ConvDimensionNumbers(op.attributes["dimension_numbers"])
    ones = [1] * (len(out.shape) - 2)
    padding = numbers(op, "padding", [0, 0] * len(ones))
    if (
        numbers(op, "lhs_dilation", ones) != ones
        or any(numbers(op, "window_reversal", ()))
        or number(op, "batch_group_count") != 1
        or min(padding, default=0) < 0
    ):
        raise Unknown("stablehlo.convolution that is transposed, reversed or cropped")
    image = dims.input_batch_dimension, dims.input_feature_dimension
    kernel = dims.kernel_output_feature_dimension, dims.kernel_input_feature_dimension
    result = dims.output_batch_dimension, dims.output_feature_dimension
    window = list(dims.kernel_spatial_dimensions)
    name = graph.node(
        "Conv",
        ordered(graph, graph.full(inputs[0]), [*image, *dims.input_spatial_dimensions]),
        ordered(graph, graph.full(inputs[1]), [*kernel, *window]),
        kernel_shape=[sizes(inputs[1].shape, op)[d] for d in window],
        strides=numbers(op, "window_strides", ones),
        dilations=numbers(op, "rhs_dilation", ones),
        pads=padding[::2] + padding[1::2],
        group=number(op, "feature_group_count"),
    )
    return replace(out, name=back(graph, name, [*result, *dims.output_spatial_dimensions]))


def _body(op: Any) -> str:
    """The one operation by which a reduction combines two numbers."""
    inside = [each.operation.name.partition(".")[2] for each in op.regions[0].blocks[0].operations]
    if len(inside) != 2 or inside[0] not in REDUCTIONS:
        raise Unknown(f"{op.operation.name} by {' and '.join(inside[:-1])}")
    return inside[0]


def reduce(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    value, start = inputs
    how = _body(op)
    axes = graph.whole(numbers(op, "dimensions", ()))
    name = graph.node(REDUCTIONS[how], graph.full(value), axes, keepdims=0)
    if start.known != IDENTITIES[how]:
        name = graph.node(BINARY[how], name, start.name)
    return replace(out, name=name)


def reduce_window(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """Pooling: ONNX pools over the last axes of [N, C, ...]."""
    (value, start), how, rank = inputs, _body(op), len(out.shape)
    ones = [1] * rank
    named = lambda name: numbers(op, name, ones)
    window, strides = named("window_dimensions"), named("window_strides")
    dilations = named("window_dilations")
    padding = np.reshape(numbers(op, "padding", [0, 0] * rank), (rank, 2))
    pooled = [d for d in range(rank) if window[d] > 1 or strides[d] > 1 or padding[d].any()]
    if (
        not pooled
        or padding.min() < 0
        or named("base_dilations") != ones
        or start.known != IDENTITIES[how]
        or not (how == "maximum" or (how == "add" and dilations == ones))
    ):
        raise Unknown("stablehlo.reduce_window that is no pooling")
    order = [d for d in range(rank) if d not in pooled] + pooled
    moved = lambda shape: [-1 if shape[d] is None else shape[d] for d in order]
    if moved(out.shape).count(-1) > 1:
        raise Unknown("stablehlo.reduce_window with two sizes of the batch")
    given = ordered(graph, graph.full(value), order)
    flat = rank - len(pooled) != 2
    if flat:
        space = sizes([value.shape[d] for d in pooled], op)
        given = graph.node("Reshape", given, graph.whole([-1, 1, *space]))
    pooling: dict[str, Any] = {
        "kernel_shape": [window[d] for d in pooled],
        "strides": [strides[d] for d in pooled],
        "pads": padding[pooled].T.reshape(-1).tolist(),
    }
    if how == "maximum":
        name = graph.node("MaxPool", given, dilations=[dilations[d] for d in pooled], **pooling)
    else:
        mean = graph.node("AveragePool", given, count_include_pad=1, **pooling)
        name = graph.node("Mul", mean, graph.constant(np.array(np.prod(window), out.dtype)))
    if flat:
        name = graph.node("Reshape", name, graph.whole(moved(out.shape)))
    return replace(out, name=back(graph, name, order))
