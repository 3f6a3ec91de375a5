"""What tells what a user brought from anything else, as plain data that JSON has."""

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
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
    if isinstance(value, functools.partial):
        return {"name": reference(value), "arguments": plain([*value.args, value.keywords])}
    if isinstance(value, nn.Module):
        return {"name": reference(type(value)), "arguments": plain(fields(value))}
    if isinstance(value, Iterable) and not hasattr(value, "shape"):
        return [plain(element) for element in value]
    return reference(value)


def fields(module: nn.Module) -> dict[str, Any]:
    """The arguments that a Linen module was made with, but for the number of classes."""
    names = [f for f in module.__dataclass_fields__ if f not in ("parent", "name", *CLASSES)]
    return {name: getattr(module, name) for name in names}


def digest(program: Any) -> str:
    """What tells a traced program from others, the same in every process: its operations, what each
    is given, and its constants. The rules of derivatives are in it where they were traced."""
    total = hashlib.sha256()
    _tell(program, lambda line: total.update(f"{line}\n".encode()))
    return total.hexdigest()[:16]


def _tell(program: Any, tell: Callable[[str], None]) -> None:
    """The lines of a program, whose variables are numbered as they come."""
    numbers: dict[Any, int] = {}

    def text(variable: Any) -> str:
        if hasattr(variable, "val"):  # a literal
            return f"{_text(variable.val)}:{variable.aval}"
        return f"{numbers.setdefault(variable, len(numbers))}:{variable.aval}"

    texts = lambda variables: " ".join(map(text, variables))
    jaxpr = getattr(program, "jaxpr", program)
    tell(f"constants {_text(getattr(program, 'consts', ()))}")
    tell(f"given {texts(jaxpr.constvars)}; {texts(jaxpr.invars)}")
    for equation in jaxpr.eqns:
        given, found = texts(equation.invars), texts(equation.outvars)
        tell(f"{found} = {equation.primitive.name} {_text(equation.params)} {given}")
    tell(f"returns {texts(jaxpr.outvars)}")


def _text(value: Any) -> str:
    """A constant or a parameter of an operation, without what is another in each process."""
    if hasattr(getattr(value, "jaxpr", value), "eqns"):
        return digest(value)
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"{value.dtype} {_text(jax.random.key_data(value))}"
    if isinstance(value, np.ndarray | jax.Array):
        array = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return f"{value.dtype}{value.shape} {hashlib.sha256(array.data).hexdigest()}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_text(value[key])}' for key in sorted(value))}}}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, functools.partial):
        return f"{reference(value)}({_text(value.args)}, {_text(value.keywords)})"
    return re.sub(r"\b0x[0-9a-f]+", "", repr(value))  # an address
