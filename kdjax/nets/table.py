"""The nets that a config can name: rows of this table, and `module:attribute` of the user's own."""

import dataclasses
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as flax_linen
from flax import nnx as flax_nnx

from kdjax.nets import calls
from kdjax.nets.from_equinox import equinox
from kdjax.nets.from_linen import linen
from kdjax.nets.from_nnx import nnx
from kdjax.nets.hydra import hydra
from kdjax.nets.identity import CLASSES, plain
from kdjax.nets.modules import CNN, MLP, ResNet, WideResNet
from kdjax.nets.net import Net
from kdjax.rules import (
    InputError,
    Rule,
    check,
    fraction,
    one_of,
    resolve,
    shown,
    tuple_of,
    whole,
)


@dataclass(frozen=True)
class Row:
    """A net of ours: its module, and what each of its arguments may be."""

    module: type[flax_linen.Module]
    arguments: dict[str, Rule]

    @property
    def defaults(self) -> dict[str, Any]:
        """Every argument with its default."""
        return {name: getattr(self.module, name) for name in self.arguments}


DTYPE = one_of(("float32", "bfloat16"))

NETS = {
    "mlp": Row(
        MLP,
        {
            "hidden": tuple_of(whole(1)),
            "dropout_input": fraction(),
            "dropout": fraction(),
            "dtype": DTYPE,
        },
    ),
    "cnn": Row(
        CNN,
        {
            "channels": tuple_of(whole(1)),
            "dense": whole(1),
            "norm": one_of(("none", "batch")),
            "dropout": fraction(),
            "dtype": DTYPE,
        },
    ),
    "resnet": Row(
        ResNet,
        {
            "blocks": whole(1),
            "stem": whole(1),
            "channels": tuple_of(whole(1)),
            "dtype": DTYPE,
        },
    ),
    "wide_resnet": Row(
        WideResNet,
        {
            "blocks": whole(1),
            "widen": whole(1),
            "dropout": fraction(),
            "dtype": DTYPE,
        },
    ),
}

HYDRA = "hydra"  # a net of this table, or of the user's, with a head for each teacher


def build(spec: Mapping[str, Any], classes: int, path: str = "model") -> Net:
    """The net that a config names.

    Args:
      spec: `name`, of a row of `NETS` or `module:attribute`, and the arguments. The attribute is a
        Linen, NNX or Equinox class, a function that returns a Net or a Linen module, or one of
        these itself, which takes no arguments. A class or function is given the number of classes
        where it takes `classes` or `num_classes`. "hydra" has `heads`, and `body`, the name of
        such a net, whose arguments stand beside them.
      classes: how many.
      path: of the spec, for messages.

    Returns:
      The net; its spec is {"name", "arguments"}, those with their defaults included.

    Raises:
      InputError: there is no such net, it has no such argument, or cannot be made.
    """
    given = dict(spec)
    name = given.pop("name")
    arguments = checked_arguments(name, given, path)
    if name == HYDRA:
        heads = arguments["heads"]
        net = hydra(build(_body(arguments), classes * heads, path), heads)
    elif name in NETS:
        net = linen(NETS[name].module(classes=classes, **arguments), name)
    else:
        net = _own(name, classes, arguments, path)
    return dataclasses.replace(net, spec={"name": name, "arguments": plain(arguments)})


def defaults(name: str, path: str = "model") -> dict[str, Any]:
    """The arguments of the net of that name that have a default of plain data.

    Raises:
      InputError: there is no such net.
    """
    if name == HYDRA:
        return {"body": "mlp"} | defaults("mlp")
    if not isinstance(name, str) or (name not in NETS and ":" not in name):
        rows = ", ".join((*NETS, HYDRA))
        raise InputError(
            f"{path}.name is {shown(name)}; it must be one of: {rows}, or the module:attribute of "
            "a net of yours"
        )
    if name in NETS:
        return NETS[name].defaults
    return {
        parameter.name: parameter.default
        for parameter in _arguments(resolve(name, f"{path}.name"))
        if isinstance(parameter.default, bool | int | float | str | tuple | None)
    }


def checked_arguments(name: str, given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """All arguments of a net, those that are not given by their defaults.

    Raises:
      InputError: there is no such net, or an argument is unknown, missing or not allowed.
    """
    if name == HYDRA:
        heads = check(whole(1), f"{path}.heads", given.get("heads"))
        body = _body({"body": "mlp"} | dict(given))
        found = checked_arguments(body.pop("name"), body, path)
        return {"body": given.get("body", "mlp"), "heads": heads} | found
    arguments = defaults(name, path) | dict(given)
    if name in NETS:
        allowed, open_to_others = list(NETS[name].arguments), False
        needed: list[str] = []
    else:
        parameters = _arguments(resolve(name, f"{path}.name"))
        named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
        allowed, open_to_others = [p.name for p in named], len(named) < len(parameters)
        needed = [p.name for p in named if p.default is p.empty]
    for argument in given:
        if argument not in allowed and not open_to_others:
            fields = one_of(("name", *allowed)).says
            raise InputError(f"{path} has no field {shown(argument)}; it must be {fields}")
    for argument in needed:
        if argument not in given:
            raise InputError(f"{path} has no field {argument!r}, which {name} needs")
    if name in NETS:
        for argument, rule in NETS[name].arguments.items():
            check(rule, f"{path}.{argument}", arguments[argument])
    return arguments


def _arguments(thing: Any) -> list[inspect.Parameter]:
    """The arguments that a config may give to a class or function of the user's."""
    if not callable(thing) or isinstance(thing, Net | flax_linen.Module):
        return []
    ours = (*CLASSES, "rngs", "key", "parent", "name")  # "name" is the net's, in a config
    places = inspect.Parameter.VAR_POSITIONAL
    return [p for p in calls.parameters(thing) if p.name not in ours and p.kind != places]


def _own(name: str, classes: int, arguments: dict[str, Any], path: str) -> Net:
    """A net of the user's."""
    thing, short = resolve(name, f"{path}.name"), name.rpartition(":")[2]
    number = {word: classes for word in CLASSES if calls.takes(thing, word)}
    try:
        return _made(thing, number | arguments, short)
    except InputError as error:
        raise InputError(f"{path}.name is {name!r}: {error}") from error
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{path}.name is {name!r}, which cannot be made of {shown(arguments)}: "
            f"{calls.reason(error)}"
        ) from error


def _made(thing: Any, arguments: dict[str, Any], name: str) -> Net:
    is_class = lambda base: isinstance(thing, type) and issubclass(thing, base)
    eqx = sys.modules.get("equinox")  # there if the user's module has imported it
    if is_class(flax_nnx.Module):
        return nnx(lambda rngs: thing(**arguments, rngs=rngs), name)
    if eqx is not None and is_class(eqx.Module):
        return equinox(lambda key: thing(**arguments, key=key), name)
    made = thing
    if callable(thing) and not isinstance(thing, flax_linen.Module):
        made = thing(**arguments)
    if isinstance(made, Net):
        return made
    if isinstance(made, flax_linen.Module):
        return linen(made, name)
    raise InputError(
        f"it is or makes {shown(made)}; it must be a Linen, NNX or Equinox class, a function that "
        "returns a Net or a Linen module, or one of these"
    )


def _body(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of the body of a hydra, by the arguments of the whole."""
    others = {k: v for k, v in arguments.items() if k not in ("body", "heads")}
    return {"name": arguments["body"], **others}
