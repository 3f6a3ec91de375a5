"""The ONNX graph that is written, and the values of the StableHLO program in it.

Shapes have None for a size that depends on the number of examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.extend.mlir import ir
from onnx import TensorProto, helper

DTYPES = {
    **{name: np.dtype(dtype) for name, dtype in (("f16", "f2"), ("f32", "f4"), ("f64", "f8"))},
    **{f"i{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"ui{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    "i1": np.dtype(bool),
}


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


def int64(graph: Graph, value: Value) -> str:
    return graph.node("Cast", graph.full(value), to=TensorProto.INT64)


def sizes(shape: Sequence[int | None], op: Any) -> list[int]:
    """Of a shape that does not depend on the batch."""
    sizes = [n for n in shape if n is not None]
    if len(sizes) < len(shape):
        raise Unknown(f"{op.operation.name} of a size that depends on the batch")
    return sizes


def number(op: Any, name: str) -> int:
    """An attribute that is an integer."""
    return ir.IntegerAttr(op.attributes[name]).value


def numbers(op: Any, name: str, otherwise: Sequence[int]) -> list[int]:
    """An attribute that is a list of integers, or a table of them, row by row."""
    if name not in op.attributes:
        return list(otherwise)
    given = op.attributes[name]
    if isinstance(given, ir.DenseElementsAttr):
        return np.array(given).reshape(-1).tolist()
    return [int(n) for n in given]


def ordered(graph: Graph, name: str, order: Sequence[int]) -> str:
    """The axes in this order, such as images with their channels before height and width."""
    if list(order) == sorted(order):
        return name
    return graph.node("Transpose", name, perm=list(order))


def back(graph: Graph, name: str, order: Sequence[int]) -> str:
    """What undoes `ordered`."""
    return ordered(graph, name, np.argsort(order).tolist())
