"""Operations on each number alone; ONNX broadcasts their operands itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from kdjax.nets.to_onnx.graph import Graph, Unknown, Value, kind

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


def elementwise(word: str) -> Callable[..., Value]:
    """An operation whose operands ONNX broadcasts itself."""

    def write(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
        names = [value.name for value in inputs]
        if all(value.wide for value in inputs) and len(inputs) > 1:
            names[0] = graph.full(inputs[0])  # to which the others are broadcast
        wide = inputs[0].wide if len(inputs) == 1 else None
        return replace(out, name=graph.node(word, *names), wide=wide)

    return write


def logical(word: str) -> Callable[..., Value]:
    """Of truth values, which alone ONNX's version of 18 has it for."""

    def write(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
        if out.dtype != bool:
            raise Unknown(f"{op.operation.name} of integers")
        return elementwise(word)(graph, op, inputs, out)

    return write


def rsqrt(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    (value,) = inputs
    name = graph.node("Reciprocal", graph.node("Sqrt", value.name))
    return replace(out, name=name, wide=value.wide)


def exponential_minus_one(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """It loses some digits near 0, as ONNX has no operation of its own."""
    (value,), one = inputs, graph.constant(np.ones((), out.dtype))
    name = graph.node("Sub", graph.node("Exp", value.name), one)
    return replace(out, name=name, wide=value.wide)


def log_plus_one(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    """It loses some digits near 0, as ONNX has no operation of its own."""
    (value,), one = inputs, graph.constant(np.ones((), out.dtype))
    name = graph.node("Log", graph.node("Add", value.name, one))
    return replace(out, name=name, wide=value.wide)


def constant(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    array = np.array(op.attributes["value"], out.dtype).reshape(
        [n for n in out.shape if n is not None]
    )
    known = array.item() if not array.ndim else None
    return replace(out, name=graph.constant(array), known=known)


def convert(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    (value,) = inputs
    name = graph.node("Cast", value.name, to=kind(out.dtype))
    return replace(out, name=name, wide=value.wide)


def compare(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    how = str(op.attributes["comparison_direction"]).split()[-1].rstrip(">")
    found = elementwise(COMPARISONS["EQ" if how == "NE" else how])(graph, op, inputs, out)
    return replace(found, name=graph.node("Not", found.name)) if how == "NE" else found


def clamp(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    low, value, high = inputs
    name = graph.node("Min", graph.node("Max", graph.full(value), low.name), high.name)
    return replace(out, name=name)


def select(graph: Graph, op: Any, inputs: list[Value], out: Value) -> Value:
    names = [value.name for value in inputs]
    if all(value.wide for value in inputs[1:]):
        names[1] = graph.full(inputs[1])
    return replace(out, name=graph.node("Where", *names))
