"""Which of StableHLO's operations are known: those that nets are made of."""

from collections.abc import Callable
from typing import Any

from kdjax.nets.to_onnx import elementwise, shapes, sums
from kdjax.nets.to_onnx.graph import Graph, Value

Write = Callable[[Graph, Any, list[Value], Value], Value]
# (graph, operation, its operands, its result without a name) -> its result

OPERATIONS: dict[str, Write] = {
    **{name: elementwise.elementwise(word) for name, word in elementwise.UNARY.items()},
    **{name: elementwise.elementwise(word) for name, word in elementwise.BINARY.items()},
    **{name: elementwise.logical(word) for name, word in elementwise.LOGICAL.items()},
    "broadcast_in_dim": shapes.broadcast,
    "clamp": elementwise.clamp,
    "compare": elementwise.compare,
    "concatenate": shapes.concatenate,
    "constant": elementwise.constant,
    "convert": elementwise.convert,
    "convolution": sums.convolution,
    "dot_general": sums.dot,
    "dynamic_broadcast_in_dim": shapes.broadcast,
    "dynamic_gather": shapes.gather,
    "dynamic_reshape": shapes.reshape,
    "erf": elementwise.elementwise("Erf"),
    "exponential_minus_one": elementwise.exponential_minus_one,
    "gather": shapes.gather,
    "get_dimension_size": shapes.size,
    "iota": shapes.iota,
    "log_plus_one": elementwise.log_plus_one,
    "pad": shapes.pad,
    "real_dynamic_slice": shapes.slice_,
    "reduce": sums.reduce,
    "reduce_window": sums.reduce_window,
    "reshape": shapes.reshape,
    "rsqrt": elementwise.rsqrt,
    "select": elementwise.select,
    "slice": shapes.slice_,
    "transpose": shapes.transpose,
}
