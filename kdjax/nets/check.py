"""Whether a net fits its data, and what is to be known of it before any compute.

Axes: B examples, C classes.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct
from jax.extend.core import jaxpr_as_fun

from kdjax.nets import calls, identity, program
from kdjax.nets.net import EVERY, Net, Outputs, Training, Variables
from kdjax.nets.trees import text
from kdjax.rules import InputError, shown


@dataclass(frozen=True)
class Facts:
    """What is known of a net that fits its data; nothing has been computed.

    Attributes:
      kind: "convolutional" if a convolution is in its programs, else "dense".
      splits: whether its results in training do not depend on how a batch is split.
      variables: of one member, their shapes and dtypes.
      outputs: of one example [1, ...] in evaluation, their shapes and dtypes.
      programs: traced, of the start, of evaluation, and of training if it is trained.
    """

    kind: str
    splits: bool
    variables: Variables
    outputs: Outputs
    programs: tuple[Any, ...] = field(repr=False)

    @functools.cached_property
    def start(self) -> str:
        """What tells how the variables are made of a key."""
        return identity.digest(self.programs[0])


def checked(
    net: Net,
    input_shape: tuple[int, ...],
    classes: int,
    path: str,
    taps: tuple[str, ...] = (),
    trained: bool = True,
) -> Facts:
    """The facts of a net that fits its data.

    Args:
      input_shape: of one example.
      classes: of the data set.
      path: of the net in the config, or what else its user calls it, for messages.
      taps: paths of the layers whose outputs are asked for.
      trained: False for a net that only teaches, which needs no parameters.

    Raises:
      InputError: the net does not take such examples, its logits are not of these classes, it has
        no such layers, or its variables cannot be trained.
    """
    says, key, size = f"{path} is {name_of(net)}", jax.eval_shape(jax.random.key, 0), 0
    batch = lambda size: ShapeDtypeStruct((size, *input_shape), "float32")

    def trace(what: str, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
        try:
            return jax.make_jaxpr(function, return_shape=True)(*arguments)
        except InputError as error:
            raise InputError(f"{says}: {error}") from error
        except Exception as error:  # whatever a net does with a shape that it does not fit
            raise InputError(
                f"{says}, which does not {what} examples of the shape {input_shape}: "
                f"{_with_batch(calls.reason(error), size)}"
            ) from error

    start, variables = trace("take", net.init, key, batch(1))
    _check_variables(variables, says, trained)
    size = program.batch_size([*input_shape, *(n for _, x in _leaves(variables) for n in x.shape)])
    evaluate = lambda v, x: net.apply(v, x, None, taps)
    evaluation, (outputs, _) = trace("take", evaluate, variables, batch(size))
    _check_outputs(outputs, size, classes, says)
    _, (alone, _) = trace("take", evaluate, variables, batch(1))
    _check_alone(alone, outputs, says)
    if not program.splits(evaluation, -1, size):
        raise InputError(
            f"{says}, whose outputs for an example depend in evaluation on the other examples of "
            "the batch, or on its place there; they must be the example's own"
        )
    programs, splits = [start, evaluation], True
    if trained:
        train = lambda v, x, key, places: net.apply(
            v, x, Training(places, key, program.mean_over_parts), taps
        )
        places = ShapeDtypeStruct((size,), "int32")
        training, (trained_outputs, after) = trace(
            "train on", train, variables, batch(size), key, places
        )
        _check_outputs(trained_outputs, size, classes, says)
        _check_unchanged(variables, after, says)
        programs.append(training)
        last = len(training.jaxpr.invars) - 1
        splits = program.splits(training, last, size) if net.splits is None else net.splits
    return Facts(
        kind="convolutional" if any(map(program.convolves, programs[1:])) else "dense",
        splits=splits,
        variables=variables,
        outputs=jax.tree.map(lambda x: ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), outputs),
        programs=tuple(programs),
    )


def identified(net: Net, facts: Facts, path: str) -> dict[str, Any]:
    """What tells a net from others, whatever code and values it is made of, as plain data.

    Raises:
      InputError: it is trained and has no derivative.
    """
    programs = list(facts.programs[1:])
    if len(programs) > 1:
        try:
            programs.append(_derivative(programs[1], facts.variables))
        except Exception as error:  # whatever a rule of the user's does
            raise InputError(
                f"{path} is {name_of(net)}, which has no derivative: {calls.reason(error)}"
            ) from error
    return {
        "start": facts.start,
        "programs": [identity.digest(each) for each in programs],
        "variables": {path: f"{x.dtype}{list(x.shape)}" for path, x in _leaves(facts.variables)},
    }


def _derivative(training: Any, variables: Variables) -> Any:
    """The program of a step's derivative by the parameters, which come first in `training`."""
    call, given = jaxpr_as_fun(training), training.in_avals
    kinds = [path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    places = [place for place, kind in enumerate(kinds) if kind == "params"]

    def derivative(*arguments: Any) -> Any:
        def logits(*params: jax.Array) -> jax.Array:
            own = dict(zip(places, params, strict=True))
            return call(*(own.get(place, x) for place, x in enumerate(arguments)))[0]

        found, pull = jax.vjp(logits, *(arguments[place] for place in places))
        return pull(jnp.ones_like(found))

    return jax.make_jaxpr(derivative)(*given)


def paths(net: Net, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The layers whose outputs can be tapped, in the order in which they are called, and the shape
    of each for one example."""
    example, shapes = ShapeDtypeStruct((1, *input_shape), "float32"), {}
    variables = jax.eval_shape(net.init, jax.eval_shape(jax.random.key, 0), example)

    def note(variables: Variables, inputs: jax.Array) -> None:
        outputs, _ = net.apply(variables, inputs, None, (EVERY,))
        shapes.update({path: x.shape[1:] for path, x in outputs.features.items()})

    jax.eval_shape(note, variables, example)
    return shapes


def name_of(net: Net) -> str:
    """A net as messages have it: its name and its arguments."""
    arguments = ", ".join(f"{k}={v!r}" for k, v in net.spec.get("arguments", {}).items())
    words = f"{net.name}({arguments})" if arguments else net.name
    return words if len(words) <= 100 else f"{words[:97]}..."


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of nested dicts, with their paths."""
    return [
        ("/".join(text(path)), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _check_variables(variables: Any, says: str, trained: bool) -> None:
    if not isinstance(variables, dict) or "params" not in variables or not _is_nested(variables):
        raise InputError(
            f"{says}, whose variables are {shown(variables)}; they must be a dict with 'params' "
            "and other collections, dicts with text as keys"
        )
    for path, leaf in _leaves(variables):
        if not leaf.size:
            raise InputError(f"{says}, whose {path} has the shape {leaf.shape}, without a number")
        if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool):
            raise InputError(f"{says}, whose {path} is {leaf.dtype}; it must be numbers")
    if not trained:
        return
    if not jax.tree.leaves(variables["params"]):
        raise InputError(f"{says}, which has no parameters; a net that is trained must have some")
    for path, leaf in _leaves(variables["params"]):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"{says}, whose parameter {path} is {leaf.dtype}; it must be floating, for it is "
                "trained"
            )


def _is_nested(tree: Any) -> bool:
    """Whether it is made of dicts with text as keys, and arrays."""
    if not isinstance(tree, dict):
        return hasattr(tree, "dtype")
    return all(isinstance(key, str) and _is_nested(inner) for key, inner in tree.items())


def _check_outputs(outputs: Outputs, size: int, classes: int, says: str) -> None:
    logits = outputs.logits
    if logits.shape != (size, classes):
        raise InputError(
            f"{says}, whose logits have the shape {_axes(logits.shape, size)}; it must be "
            f"[B, {classes}], for the data set has {classes} classes"
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise InputError(f"{says}, whose logits are {logits.dtype}; they must be floating")
    for path, feature in outputs.features.items():
        if feature.shape[:1] != (size,):
            raise InputError(
                f"{says}, whose layer {path!r} puts out {_axes(feature.shape, size)}; it must be "
                "[B, ...] to be tapped"
            )


def _check_alone(alone: Outputs, outputs: Outputs, says: str) -> None:
    """Whether one example has the outputs that it has in a batch: a squeeze takes its axis away."""
    for name, found, many in (
        ("logits", alone.logits, outputs.logits),
        *((f"layer {path!r}", alone.features[path], x) for path, x in outputs.features.items()),
    ):
        if found.shape != (1, *many.shape[1:]):
            raise InputError(
                f"{says}, whose {name} of one example alone have the shape {list(found.shape)}; it "
                f"must be {[1, *many.shape[1:]]}, as in a batch"
            )


def _with_batch(reason: str, size: int) -> str:
    """A reason with "B" in place of the size of the batch that was only traced."""

    def named(number: re.Match[str]) -> str:
        times, rest = divmod(int(number[0]), size)
        return number[0] if rest or not times else "B" if times == 1 else f"{times}*B"

    return re.sub(r"\b\d+\b", named, reason) if size else reason


def _axes(shape: tuple[int, ...], size: int) -> str:
    return f"[{', '.join('B' if n == size else str(n) for n in shape)}]"


def _check_unchanged(variables: Variables, after: Any, says: str) -> None:
    """Whether a training step leaves the other collections in the form that they had."""
    described = lambda tree: {
        path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in _leaves(tree)
    }
    before = described({kind: tree for kind, tree in variables.items() if kind != "params"})
    now = described(after)
    for path in sorted({*before, *now}):
        if before.get(path) != now.get(path):
            raise InputError(
                f"{says}, whose variable {path} is {before.get(path, 'not there')} at the start "
                f"and {now.get(path, 'not there')} after a step of training; it must stay the same"
            )
