"""StableHLO's operations written as ONNX's, those that nets are made of.

Each is a function (graph, operation, its operands, its result without a name) -> its result. Shapes
have None for a size that depends on the number of examples.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from onnx import TensorProto, helper

Write = Callable[["Graph", Any, list["Value"], "Value"], "Value"]

DTYPES = {
    **{name: np.dtype(dtype) for name, dtype in (("f16", "f2"), ("f32", "f4"), ("f64", "f8"))},
    **{f"i{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"ui{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    "i1": np.dtype(bool),
}
UNARY = {
    "abs": "Abs",
    "ceil": "Ceil",
    "cosine": "Cos",
    "exponential": "Exp",
    "floor": "Floor",
    "log": "Log",
    "logistic": "Sigmoid",
    "negate": "Neg",
    "optimization_barrier": "Identity",
    "round_nearest_even": "Round",
    "sign": "Sign",
    "sine": "Sin",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}
BINARY = {
    "add": "Add",
    "divide": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "multiply": "Mul",
    "power": "Pow",
    "subtract": "Sub",
}
LOGICAL = {"and": "And", "not": "Not", "or": "Or"}
COMPARISONS = {
    "EQ": "Equal",
    "GE": "GreaterOrEqual",
    "GT": "Greater",
    "LE": "LessOrEqual",
    "LT": "Less",
}
REDUCTIONS = {"add": "ReduceSum", "maximum": "ReduceMax", "minimum": "ReduceMin"}
IDENTITIES = {"add": 0.0, "maximum": -np.inf, "minimum": np.inf}


@dataclass(frozen=True)
class Value:
    """An array of the ONNX graph.

    Attributes:
      name: in the graph.
      shape: what it has in the StableHLO program.
      dtype: likewise.
      wide: the name of the shape to which it is still to be broadcast; elementwise operations of
        ONNX do so themselves.
      known: its number, of a constant scalar.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype
    wide: str | None = None
    known: Any = None


@dataclass
class Graph:
    """The ONNX graph as far as it is written."""

    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    functions: Mapping[str, Any] = field(default_factory=dict)  # of the StableHLO program

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(array).reshape(np.shape(array))
        return name

    def whole(self, numbers: Sequence[int]) -> str:
        return self.constant(np.array(numbers, np.int64))

    def full(self, value: Value) -> str:
        """The name of a value that has its shape."""
        if value.wide is None:
            return value.name
        return self.node("Expand", value.name, value.wide)


class Unknown(ValueError):
    """The program has an operation that is not known here."""


def described(value: Any) -> Value:
    """A value of the StableHLO program, without a name."""
    of = ir.RankedTensorType(value.type)
    if str(of.element_type) not in DTYPES:
        raise Unknown(f"arithmetic in {of.element_type}")
    shape = tuple(None if of.is_dynamic_dim(d) else of.get_dim_size(d) for d in range(of.rank))
    return Value("", shape, DTYPES[str(of.element_type)])


def kind(dtype: np.dtype) -> int:
    return helper.np_dtype_to_tensor_dtype(dtype)


def _elementwise(kind: str) -> Callable[..., Value]:
    """An operation whose operands ONNX broadcasts itself."""

    def write(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
        names = [value.name for value in inputs]
        if all(value.wide for value in inputs) and len(inputs) > 1:
            names[0] = graph.full(inputs[0])  # to which the others are broadcast
        wide = inputs[0].wide if len(inputs) == 1 else None
        return replace(out, name=graph.node(kind, *names), wide=wide)

    return write


def _logical(kind: str) -> Callable[..., Value]:
    def write(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
        if out.dtype != bool:
            raise Unknown(f"{op.operation.name} of integers")
        return _elementwise(kind)(graph, op, inputs, out)

    return write


def _rsqrt(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    (value,) = inputs
    name = graph.node("Reciprocal", graph.node("Sqrt", value.name))
    return replace(out, name=name, wide=value.wide)


def _exponential_minus_one(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """It loses some digits near 0, as ONNX has no operation of its own."""
    (value,), one = inputs, graph.constant(np.ones((), out.dtype))
    name = graph.node("Sub", graph.node("Exp", value.name), one)
    return replace(out, name=name, wide=value.wide)


def _log_plus_one(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """It loses some digits near 0, as ONNX has no operation of its own."""
    (value,), one = inputs, graph.constant(np.ones((), out.dtype))
    name = graph.node("Log", graph.node("Add", value.name, one))
    return replace(out, name=name, wide=value.wide)


def _constant(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    array = np.array(op.attributes["value"], out.dtype).reshape(out.shape)
    known = array.item() if not array.ndim else None
    return replace(out, name=graph.constant(array), known=known)


def _convert(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    (value,) = inputs
    name = graph.node("Cast", value.name, to=kind(out.dtype))
    return replace(out, name=name, wide=value.wide)


def _compare(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    how = str(op.attributes["comparison_direction"]).split()[-1].rstrip(">")
    found = _elementwise(COMPARISONS["EQ" if how == "NE" else how])(graph, op, inputs, out)
    return replace(found, name=graph.node("Not", found.name)) if how == "NE" else found


def _clamp(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    low, value, high = inputs
    name = graph.node("Min", graph.node("Max", graph.full(value), low.name), high.name)
    return replace(out, name=name)


def _select(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    names = [value.name for value in inputs]
    if all(value.wide for value in inputs[1:]):
        names[1] = graph.full(inputs[1])
    return replace(out, name=graph.node("Where", *names))


def _int64(graph: Graph, value: Value) -> str:
    return graph.node("Cast", graph.full(value), to=TensorProto.INT64)


def _reshape(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """Also dynamic: with one size that depends on the batch, ONNX finds it out."""
    if out.shape.count(None) <= 1:
        shape = graph.whole([-1 if n is None else n for n in out.shape])
    else:
        shape = _int64(graph, inputs[1])
    name = graph.node("Reshape", graph.full(inputs[0]), shape)
    return replace(out, name=name, known=inputs[0].known if not out.shape else None)


def _broadcast(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """Gives an array the rank that it shall have; the rest is left to elementwise operations."""
    value, places = inputs[0], _numbers(op, "broadcast_dimensions", ())
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
        return replace(out, name=name)
    given = _int64(graph, inputs[1]) if len(inputs) > 1 else graph.whole(_sizes(out.shape, op))
    return replace(out, name=name, wide=given)


def _sizes(shape: Sequence[int | None], op: Any) -> list[int]:
    """Of a shape that does not depend on the batch."""
    sizes = [n for n in shape if n is not None]
    if len(sizes) < len(shape):
        raise Unknown(f"{op.operation.name} of a size that depends on the batch")
    return sizes


def _transpose(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    order = _numbers(op, "permutation", ())
    return replace(out, name=_ordered(graph, graph.full(inputs[0]), order))


def _ordered(graph: Graph, name: str, order: Sequence[int]) -> str:
    """The axes in this order, such as images with their channels before height and width."""
    if list(order) == sorted(order):
        return name
    return graph.node("Transpose", name, perm=list(order))


def _back(graph: Graph, name: str, order: Sequence[int]) -> str:
    """What undoes `_ordered`."""
    return _ordered(graph, name, np.argsort(order).tolist())


def _dot(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
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


def _number(op: Any, name: str) -> int:
    """An attribute that is an integer."""
    return ir.IntegerAttr(op.attributes[name]).value


def _numbers(op: Any, name: str, otherwise: Sequence[int]) -> list[int]:
    """An attribute that is a list of integers, or a table of them, row by row."""
    if name not in op.attributes:
        return list(otherwise)
    given = op.attributes[name]
    if isinstance(given, ir.DenseElementsAttr):
        return np.array(given).reshape(-1).tolist()
    return [int(n) for n in given]


def _convolution(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    dims = stablehlo.ConvDimensionNumbers(op.attributes["dimension_numbers"])
    ones = [1] * (len(out.shape) - 2)
    padding = _numbers(op, "padding", [0, 0] * len(ones))
    if (
        _numbers(op, "lhs_dilation", ones) != ones
        or any(_numbers(op, "window_reversal", ()))
        or _number(op, "batch_group_count") != 1
        or min(padding, default=0) < 0
    ):
        raise Unknown("stablehlo.convolution that is transposed, reversed or cropped")
    image = dims.input_batch_dimension, dims.input_feature_dimension
    kernel = dims.kernel_output_feature_dimension, dims.kernel_input_feature_dimension
    result = dims.output_batch_dimension, dims.output_feature_dimension
    window = list(dims.kernel_spatial_dimensions)
    name = graph.node(
        "Conv",
        _ordered(graph, graph.full(inputs[0]), [*image, *dims.input_spatial_dimensions]),
        _ordered(graph, graph.full(inputs[1]), [*kernel, *window]),
        kernel_shape=[_sizes(inputs[1].shape, op)[d] for d in window],
        strides=_numbers(op, "window_strides", ones),
        dilations=_numbers(op, "rhs_dilation", ones),
        pads=padding[::2] + padding[1::2],
        group=_number(op, "feature_group_count"),
    )
    return replace(out, name=_back(graph, name, [*result, *dims.output_spatial_dimensions]))


def _body(op: Any) -> str:
    """The one operation by which a reduction combines two numbers."""
    inside = [each.operation.name.partition(".")[2] for each in op.regions[0].blocks[0].operations]
    if len(inside) != 2 or inside[0] not in REDUCTIONS:
        raise Unknown(f"{op.operation.name} by {' and '.join(inside[:-1])}")
    return inside[0]


def _reduce(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    value, start = inputs
    how = _body(op)
    axes = graph.whole(_numbers(op, "dimensions", ()))
    name = graph.node(REDUCTIONS[how], graph.full(value), axes, keepdims=0)
    if start.known != IDENTITIES[how]:
        name = graph.node(BINARY[how], name, start.name)
    return replace(out, name=name)


def _reduce_window(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """Pooling over the middle axes of [B, ..., channels], or the last of [B, channels, ...]."""
    (value, start), how, rank = inputs, _body(op), len(out.shape)
    ones = [1] * rank
    window, strides, inner, outer = (
        _numbers(op, name, ones)
        for name in (
            "window_dimensions",
            "window_strides",
            "window_dilations",
            "base_dilations",
        )
    )
    padding = np.reshape(_numbers(op, "padding", [0, 0] * rank), (rank, 2))
    still = [d for d in range(rank) if window[d] == strides[d] == 1 and not padding[d].any()]
    channels = [d for d in (rank - 1, 1) if d > 0 and d in still][:1]
    if (
        outer != ones
        or padding.min() < 0
        or start.known != IDENTITIES[how]
        or not (rank > 2 and 0 in still and channels)
        or not (how == "maximum" or (how == "add" and inner == ones))
    ):
        raise Unknown("stablehlo.reduce_window that is no pooling")
    moved = [d for d in range(rank) if d not in (0, *channels)]
    order = [0, *channels, *moved]
    pooling: dict[str, Any] = {
        "kernel_shape": [window[d] for d in moved],
        "strides": [strides[d] for d in moved],
        "pads": padding[moved].T.reshape(-1).tolist(),
    }
    given = _ordered(graph, graph.full(value), order)
    if how == "maximum":
        name = graph.node("MaxPool", given, dilations=[inner[d] for d in moved], **pooling)
    else:
        mean = graph.node("AveragePool", given, count_include_pad=1, **pooling)
        name = graph.node("Mul", mean, graph.constant(np.array(np.prod(window), out.dtype)))
    return replace(out, name=_back(graph, name, order))


def _slice(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """Also dynamic: with bounds that depend on the batch."""
    bounds = [_int64(graph, each) for each in inputs[1:]] or [
        graph.whole(_numbers(op, name, ()))
        for name in ("start_indices", "limit_indices", "strides")
    ]
    axes = graph.whole(range(len(out.shape)))
    name = graph.node("Slice", graph.full(inputs[0]), bounds[0], bounds[1], axes, bounds[2])
    return replace(out, name=name)


def _gather(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
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
    name = _int64(graph, index)
    if vector < rank:
        name = graph.node("Squeeze", name, graph.whole([vector]))
    name = graph.node("Clip", name, *(graph.constant(np.int64(n)) for n in (0, size - 1)))
    name = graph.node("Gather", graph.full(value), name, axis=axis)
    offsets = list(dims.offset_dims)
    others = [d for d in range(len(out.shape)) if d not in offsets]
    return replace(out, name=_back(graph, name, [*offsets[:axis], *others, *offsets[axis:]]))


def _concatenate(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    names = map(graph.full, inputs)
    return replace(out, name=graph.node("Concat", *names, axis=_number(op, "dimension")))


def _pad(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    value, filling = inputs
    low, high = _numbers(op, "edge_padding_low", ()), _numbers(op, "edge_padding_high", ())
    if any(_numbers(op, "interior_padding", ())) or min(*low, *high, 0) < 0:
        raise Unknown("stablehlo.pad between elements, or with less than nothing")
    name = graph.node("Pad", graph.full(value), graph.whole([*low, *high]), filling.name)
    return replace(out, name=name)


def _iota(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    sizes, axis = _sizes(out.shape, op), _number(op, "iota_dimension")
    shape = [n if d == axis else 1 for d, n in enumerate(sizes)]
    name = graph.constant(np.arange(sizes[axis]).astype(out.dtype).reshape(shape))
    return replace(out, name=name, wide=graph.whole(sizes) if shape != sizes else None)


def _size(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    axis = _number(op, "dimension")
    size = graph.node("Shape", graph.full(inputs[0]), start=axis, end=axis + 1)
    scalar = graph.node("Reshape", size, graph.whole(()))
    return replace(out, name=graph.node("Cast", scalar, to=kind(out.dtype)))


OPERATIONS: dict[str, Write] = {
    **{name: _elementwise(word) for name, word in UNARY.items()},
    **{name: _elementwise(word) for name, word in BINARY.items()},
    **{name: _logical(word) for name, word in LOGICAL.items()},
    "broadcast_in_dim": _broadcast,
    "clamp": _clamp,
    "compare": _compare,
    "concatenate": _concatenate,
    "constant": _constant,
    "convert": _convert,
    "convolution": _convolution,
    "dot_general": _dot,
    "dynamic_broadcast_in_dim": _broadcast,
    "dynamic_gather": _gather,
    "dynamic_reshape": _reshape,
    "erf": _elementwise("Erf"),
    "exponential_minus_one": _exponential_minus_one,
    "gather": _gather,
    "get_dimension_size": _size,
    "iota": _iota,
    "log_plus_one": _log_plus_one,
    "pad": _pad,
    "real_dynamic_slice": _slice,
    "reduce": _reduce,
    "reduce_window": _reduce_window,
    "reshape": _reshape,
    "rsqrt": _rsqrt,
    "select": _select,
    "slice": _slice,
    "transpose": _transpose,
}
