"""A forward pass as an ONNX file, made of the StableHLO that `jax.export` writes.

Only the operations that nets are made of are known; any other is refused by name.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.export
import numpy as np
import onnx
from jax.extend import mlir
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from onnx import helper, numpy_helper

from kdjax.nets.to_onnx.graph import Graph, Unknown, Value, described, kind
from kdjax.nets.to_onnx.table import OPERATIONS

OPSET, IR_VERSION = 18, 9  # of 2022 and 2023: runtimes of any age read it
CPU = 0  # the place of "cpu" among the platforms of an exported program
CALLS = {"func.call": "callee", "stablehlo.composite": "decomposition"}
SHAPE_ASSERTION = "shape_assertion"  # the one custom call that does nothing


def to_onnx(exported: jax.export.Exported, name: str, class_names: Sequence[str]) -> bytes:
    """An ONNX file: "inputs" [batch, ...] -> "logits" [batch, C].

    Args:
      exported: of one argument [B, ...], B symbolic; of its platforms the first is meant, "cpu".
      name: of the graph.
      class_names: [C], kept as JSON in the file's metadata, "class_names".

    Raises:
      Unknown: the program has an operation that is not known here; the message names it.
    """
    with ir.Context() as context:
        stablehlo.register_dialect(context)
        module = mlir.deserialize_portable_artifact(exported.mlir_module_serialized)
        functions = {ir.StringAttr(op.name).value: op for op in module.body.operations}
        graph = Graph(functions=functions)
        *others, given = (described(argument) for argument in functions["main"].arguments)
        platform = graph.constant(np.int32(CPU))
        arguments = [replace(v, name=platform, known=CPU) for v in others]
        (found,) = _function(graph, functions["main"], [*arguments, replace(given, name="inputs")])
    graph.nodes.append(helper.make_node("Identity", [graph.full(found)], ["logits"]))
    nodes = _needed(graph.nodes)
    used = {each for node in nodes for each in node.input}
    declared = lambda name, value: helper.make_tensor_value_info(
        name, kind(value.dtype), ["batch", *value.shape[1:]]
    )
    made = helper.make_graph(
        nodes,
        name,
        [declared("inputs", given)],
        [declared("logits", found)],
        [numpy_helper.from_array(a, n) for n, a in graph.weights.items() if n in used],
    )
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="kdjax",
    )
    helper.set_model_props(model, {"class_names": json.dumps(class_names)})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _needed(nodes: list[Any]) -> list[Any]:
    """The nodes that "logits" depends on, in their order."""
    needed, kept = {"logits"}, []
    for node in reversed(nodes):
        if node.output[0] in needed:
            needed |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _function(graph: Graph, function: Any, arguments: Sequence[Value]) -> list[Value]:
    block = function.regions[0].blocks[0]
    return _block(graph, block, dict(zip(block.arguments, arguments, strict=True)))


def _block(graph: Graph, block: Any, values: dict[Any, Value]) -> list[Value]:
    """Writes the operations of a block; returns what it returns."""
    for op in block.operations:
        name, inputs = op.operation.name, [values[operand] for operand in op.operands]
        dialect, _, short = name.partition(".")
        if short == "return":
            return inputs
        if name in CALLS:
            called = ir.FlatSymbolRefAttr(op.attributes[CALLS[name]]).value
            results = _function(graph, graph.functions[called], inputs)
        elif name == "stablehlo.case":
            if inputs[0].known is None:
                raise Unknown("stablehlo.case of a number that depends on the inputs")
            branch = op.regions[int(inputs[0].known)].blocks[0]
            results = _block(graph, branch, values)
        elif short == "custom_call":
            called = ir.StringAttr(op.attributes["call_target_name"]).value
            if called != SHAPE_ASSERTION:
                raise Unknown(f"{name} of {called}")
            results = []
        elif dialect in ("stablehlo", "chlo") and short in OPERATIONS and len(op.results) == 1:
            out = described(op.results[0])
            results = [OPERATIONS[short](graph, op, inputs, out)]
        else:
            raise Unknown(name)
        values |= zip(op.results, results, strict=True)
    raise Unknown("a block that returns nothing")
