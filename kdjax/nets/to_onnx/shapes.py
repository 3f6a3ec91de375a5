"""Operations that move numbers, and compute none."""

from dataclasses import replace
from typing import Any

import numpy as np
from jax.extend.mlir.dialects import stablehlo

from kdjax.nets.to_onnx.graph import (
    Graph,
    Unknown,
    Value,
    back,
    int64,
    kind,
    number,
    numbers,
    ordered,
    sizes,
)


def reshape(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """Also dynamic: with one size that depends on the batch, ONNX finds it out."""
    if out.shape.count(None) <= 1:
        shape = graph.whole([-1 if n is None else n for n in out.shape])
    else:
        shape = int64(graph, inputs[1])
    name = graph.node("Reshape", graph.full(inputs[0]), shape)
    return replace(out, name=name, known=inputs[0].known if not out.shape else None)


def broadcast(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """Gives an array the rank that it shall have; the rest is left to elementwise operations."""
    value, places = inputs[0], numbers(op, "broadcast_dimensions", ())
    if places != sorted(places):
        raise Unknown(f"{op.operation.name} that transposes")
    ones: list[int | None] = [1] * len(out.shape)
    for place, size in zip(places, value.shape, strict=True):
        ones[place] = size
    if ones.count(None) > 1:
        raise Unknown(f"{op.operation.name} of an array with two sizes of the batch")
    name = graph.full(value)
    if len(ones) != len(value.shape):
        name = graph.node("Reshape", name, graph.whole([-1 if n is None else n for n in ones]))
    if tuple(ones) == out.shape:
        return replace(out, name=name, known=None if out.shape else value.known)
    given = int64(graph, inputs[1]) if len(inputs) > 1 else graph.whole(sizes(out.shape, op))
    return replace(out, name=name, wide=given)


def transpose(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    order = numbers(op, "permutation", ())
    return replace(out, name=ordered(graph, graph.full(inputs[0]), order))


def slice_(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """Also dynamic: with bounds that depend on the batch."""
    bounds = [int64(graph, each) for each in inputs[1:]] or [
        graph.whole(numbers(op, name, ())) for name in ("start_indices", "limit_indices", "strides")
    ]
    axes = graph.whole(range(len(out.shape)))
    name = graph.node("Slice", graph.full(inputs[0]), bounds[0], bounds[1], axes, bounds[2])
    return replace(out, name=name)


def gather(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """Whole slices along one axis, such as x[:, :, 0], or rows of a table."""
    dims = stablehlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    value, index = inputs[:2]
    (axis, *more), vector, rank = dims.start_index_map, dims.index_vector_dim, len(index.shape)
    kept, size = [n for d, n in enumerate(value.shape) if d != axis], value.shape[axis]
    if (
        more
        or size is None
        or list(dims.collapsed_slice_dims) != [axis]
        or list(dims.operand_batching_dims)
        or [out.shape[d] for d in dims.offset_dims] != kept
        or (vector < rank and (vector != rank - 1 or index.shape[vector] != 1))
    ):
        raise Unknown(f"{op.operation.name} of other than whole slices along one axis")
    name = int64(graph, index)
    if vector < rank:
        name = graph.node("Squeeze", name, graph.whole([vector]))
    name = graph.node("Clip", name, *(graph.constant(np.int64(n)) for n in (0, size - 1)))
    name = graph.node("Gather", graph.full(value), name, axis=axis)
    offsets = list(dims.offset_dims)
    others = [d for d in range(len(out.shape)) if d not in offsets]
    return replace(out, name=back(graph, name, [*offsets[:axis], *others, *offsets[axis:]]))


def concatenate(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    names = map(graph.full, inputs)
    return replace(out, name=graph.node("Concat", *names, axis=number(op, "dimension")))


def pad(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    value, filling = inputs
    low, high = numbers(op, "edge_padding_low", ()), numbers(op, "edge_padding_high", ())
    if any(numbers(op, "interior_padding", ())) or min(*low, *high, 0) < 0:
        raise Unknown("stablehlo.pad between elements, or with less than nothing")
    name = graph.node("Pad", graph.full(value), graph.whole([*low, *high]), filling.name)
    return replace(out, name=name)


def iota(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    shape, axis = sizes(out.shape, op), number(op, "iota_dimension")
    line = [n if d == axis else 1 for d, n in enumerate(shape)]
    name = graph.constant(np.arange(shape[axis]).astype(out.dtype).reshape(line))
    return replace(out, name=name, wide=graph.whole(shape) if line != shape else None)


def size(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    axis = number(op, "dimension")
    size = graph.node("Shape", graph.full(inputs[0]), start=axis, end=axis + 1)
    scalar = graph.node("Reshape", size, graph.whole(()))
    return replace(out, name=graph.node("Cast", scalar, to=kind(out.dtype)))
