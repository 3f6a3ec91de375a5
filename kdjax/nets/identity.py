"""What tells one net from another, as plain data that JSON has."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

Plain = Any  # None, truth, number, text, or a list or dict of those

CLASSES = ("classes", "num_classes")  # how a net may call the number of classes, which data decide


def reference(thing: Any) -> str:
    """`module:attribute` of a function or class, of what a partial calls, or of a value's class."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}:{thing.__qualname__}"


def plain(value: Any) -> Plain:
    """A value as plain data; what is none of its own is known by its function or class."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, nn.Module):
        return {"name": reference(type(value)), "arguments": plain(fields(value))}
    if isinstance(value, Iterable) and not hasattr(value, "shape"):
        return [plain(element) for element in value]
    return reference(value)


def fields(module: nn.Module) -> dict[str, Any]:
    """The arguments that a Linen module was made with, but for the number of classes."""
    names = [f for f in module.__dataclass_fields__ if f not in ("parent", "name", *CLASSES)]
    return {name: getattr(module, name) for name in names}
