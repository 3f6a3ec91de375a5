"""How a net that somebody else wrote is called: its arguments, its logits, its layers' outputs."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import jax
from jax.extend.core import get_opaque_trace_state

from kdjax.nets.net import EVERY, Training
from kdjax.rules import InputError

MODES = {  # arguments that tell a call whether it trains, and their values while it does
    "train": True,
    "training": True,
    "is_training": True,
    "is_train": True,
    "deterministic": False,
    "inference": False,
    "use_running_average": False,
}

LIBRARIES = ("flax", "equinox", "haiku")  # whose own options tell no mode, and may stay unset

Arguments = Callable[[Training | None], dict[str, Any]]


def arguments(
    call: Callable[..., Any], name: str, positional: int, others: Sequence[str] = ()
) -> Arguments:
    """What a net's call is given by keyword, in training and in evaluation.

    Args:
      call: the function, or the unbound method.
      name: of the net, for messages.
      positional: how many arguments it is given by place, `self` among them.
      others: names of arguments that the caller gives itself.

    Returns:
      (training) -> {name: value} of the arguments that tell whether the net trains: those of
      `MODES`, and one that is annotated with `Training`, which is given as it is.

    Raises:
      InputError: the call needs another argument, or may be told whether it trains by one that is
        not of `MODES`.
    """
    modes, whole, options = [], [], []
    fixed = call.keywords if isinstance(call, functools.partial) else {}
    for parameter in parameters(call)[positional:]:
        if parameter.kind == parameter.VAR_KEYWORD:
            options.append(f"**{parameter.name}")
        elif parameter.kind == parameter.VAR_POSITIONAL:
            continue
        elif _takes_training(parameter.annotation):
            whole.append(parameter.name)
        elif parameter.name in MODES:
            modes.append(parameter.name)
        elif parameter.default is parameter.empty and parameter.name not in others:
            raise InputError(
                f"the call of {name} needs the argument {parameter.name!r}; beside its inputs it "
                f"may need only: {', '.join((*MODES, *others))}"
            )
        elif _is_truth(parameter) and parameter.name not in (*others, *fixed):
            options.append(parameter.name)
    if options and not modes and not whole and not _is_of_library(call):
        raise InputError(
            f"the call of {name} has the option {options[0]}, which is never given; what tells it "
            f"whether it trains must have one of the names {', '.join(MODES)}, and anything else "
            "must be fixed, as a field of the net or by functools.partial"
        )

    def given(training: Training | None) -> dict[str, Any]:
        flags = {mode: MODES[mode] == (training is not None) for mode in modes}
        return flags | {argument: training for argument in whole}

    return given


def takes(call: Any, argument: str) -> inspect.Parameter | None:
    """The argument of that name, if it is a call that has one."""
    return next((p for p in parameters(call) if p.name == argument), None)


def parameters(call: Any) -> list[inspect.Parameter]:
    """The arguments of a function or class, their annotations evaluated where that is possible."""
    if isinstance(call, type):  # whose metaclass may hide its arguments
        return parameters(inspect.getattr_static(call, "__init__"))[1:]
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # a built-in function tells nothing of its arguments
        return []
    with contextlib.suppress(Exception):  # an annotation may name what is not imported
        signature = inspect.signature(call, eval_str=True)
    return list(signature.parameters.values())


def _is_truth(parameter: inspect.Parameter) -> bool:
    """Whether an argument is True or False, by its default or by its annotation."""
    note = parameter.annotation
    is_truth = "bool" in note if isinstance(note, str) else note is bool or bool in get_args(note)
    return isinstance(parameter.default, bool) or is_truth


def _is_of_library(call: Callable[..., Any]) -> bool:
    call = call.func if isinstance(call, functools.partial) else call
    return str(getattr(call, "__module__", "")).partition(".")[0] in LIBRARIES


def _takes_training(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return "Training" in annotation
    return annotation is Training or Training in get_args(annotation)


def logits(output: Any, name: str) -> jax.Array:
    """The output of a net's call, if it is one array."""
    if not hasattr(output, "shape") or not hasattr(output, "dtype"):
        raise InputError(f"{name} returns a {type(output).__name__}; it must return logits [B, C]")
    return output


class Record:
    """What the layers of one call of a net put out.

    Attributes:
      outputs: {path: the output of each call of that layer}; None stands for one that cannot be
        taken.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, list[Any]] = {}
        self._trace = get_opaque_trace_state(convention="kdjax")

    def add(self, path: str, output: Any) -> None:
        """Notes an output; an inner `vmap`, `jit` or `scan` does not let its arrays out."""
        here = get_opaque_trace_state(convention="kdjax") == self._trace
        self.outputs.setdefault(path, []).append(output if here else None)


def record_calls(layer: Any, path: str, record: Record) -> None:
    """Lets `layer`, an object that this call of the net has made, note what its calls put out."""
    object.__setattr__(layer, "_record", functools.partial(record.add, path))
    object.__setattr__(layer, "__class__", _recording(_class_of(layer)))


def _class_of(layer: Any) -> Any:
    return type(layer)


@functools.cache
def _recording(layer: Any) -> type:
    """A subclass of `layer` whose calls are noted."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = layer.__call__(self, *args, **kwargs)
        if hasattr(self, "_record"):  # a copy that a transformation has made has none
            self._record(output)
        return output

    names = {"__call__": __call__, "__doc__": layer.__doc__, "__module__": layer.__module__}
    return type(layer.__name__, (layer,), names)


def features(
    outputs: Mapping[str, Sequence[Any]], taps: Sequence[str], name: str
) -> dict[str, jax.Array]:
    """The outputs of the tapped layers.

    Args:
      outputs: {path: the output of each call of that layer}.
      taps: paths, or EVERY.
      name: of the net, for messages.

    Raises:
      InputError: there is no such layer, it is called more than once, or puts out no array.
    """
    once = {
        path: calls[0]
        for path, calls in outputs.items()
        if len(calls) == 1 and hasattr(calls[0], "shape")
    }
    if EVERY in taps:
        return once
    for path in taps:
        calls = outputs.get(path, ())
        if path in once:
            continue
        if not calls:
            why = f"{name} calls no layer {path!r}"
        elif len(calls) > 1:
            why = f"{name} calls its layer {path!r} {len(calls)} times, and not once"
        elif calls[0] is None:
            why = f"{name} calls its layer {path!r} within a transformation such as vmap or jit"
        else:
            why = f"the layer {path!r} of {name} puts out a {type(calls[0]).__name__}, no array"
        others = [path for path, calls in outputs.items() if len(calls) == 1]
        raise InputError(f"{why}; features can be taken of: {', '.join(others) or 'none'}")
    return {path: once[path] for path in taps}


def reason(error: Exception) -> str:
    """The first line of an error that somebody else's code has raised."""
    line = (str(error).strip().splitlines() or [""])[0]
    plain = isinstance(error, ValueError | TypeError) and line
    return line if plain else f"{type(error).__name__}: {line}".removesuffix(": ")
