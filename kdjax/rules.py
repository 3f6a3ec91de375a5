"""What a configuration value may be, said in words, and the one error a user's input raises."""

import dataclasses
import difflib
import functools
import importlib
import math
import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class InputError(ValueError):
    """The user's input cannot be used. The message is one sentence that names field and value."""


class Diverged(RuntimeError):
    """Every member of a stage has diverged."""


class Preempted(RuntimeError):
    """The run was asked to end before it was done; all that was computed is saved."""


@dataclass(frozen=True)
class Rule:
    """`accepts(value)` decides, `says` completes the sentence "... must be"."""

    says: str
    accepts: Callable[[Any], bool]


def field(default: Any, rule: Rule, hparam: bool = False) -> Any:
    """A dataclass field with its default and what it may be; an `hparam` is a number that each
    member may have of its own."""
    return dataclasses.field(default=default, metadata={"rule": rule, "hparam": hparam})


def check(rule: Rule, path: str, value: Any) -> Any:
    """Returns `value`, or raises InputError naming `path`, the value and what is allowed."""
    if not rule.accepts(value):
        raise InputError(f"{path} is {shown(value)}; it must be {rule.says}")
    return value


def shown(value: Any) -> str:
    """The value as a message has it: on one line, and not too long."""
    words = " ".join(repr(value).split())
    return words if len(words) <= 100 else f"{words[:97]}..."


def choose(table: Iterable[str], path: str, name: Any) -> str:
    """Returns `name` if the table has it, else raises InputError with the choices."""
    return check(one_of(table), path, name)


def resolve(reference: str, path: str) -> Any:
    """What `module:attribute` names, the form of Python's entry points; the module is imported.

    Raises:
      InputError: there is no such module or attribute, or the module cannot be imported.
    """
    module_name, _, attribute = reference.partition(":")
    if not all(part.isidentifier() for part in f"{module_name}.{attribute}".split(".")):
        raise InputError(
            f"{path} is {shown(reference)}; it must be module:attribute, such as my_nets:TinyNet"
        )
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        if isinstance(error, ModuleNotFoundError) and _within(module_name, error.name):
            why = f"there is no module {error.name!r} in this folder or installed"
        else:
            why = f"importing {module_name!r} raised {type(error).__name__}: {error}"
        raise InputError(f"{path} is {reference!r}, but {' '.join(why.split())}") from error
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        close = difflib.get_close_matches(attribute, dir(module), 1)
        hint = f"; did you mean {module_name}:{close[0]}?" if close else ""
        raise InputError(
            f"{path} is {reference!r}, but {module_name!r} has no {attribute!r}{hint}"
        ) from error


def _within(module: str, name: str | None) -> bool:
    """Whether `name` is the module, or a package that it is in."""
    return name is not None and f"{module}.".startswith(f"{name}.")


def number(low: float, high: float = math.inf, above: bool = False) -> Rule:
    """A finite number from `low` (or only above it) to `high`."""
    words = f"a number {'above' if above else 'of at least'} {low:g}"
    words += "" if high == math.inf else f" and at most {high:g}"
    return Rule(words, lambda v: _is_number(v) and (v > low if above else v >= low) and v <= high)


def fraction() -> Rule:
    """A number from 0, and below 1."""
    return Rule("a number from 0 to below 1", lambda v: _is_number(v) and 0 <= v < 1)


def whole(low: int, high: int = 2**31 - 1) -> Rule:
    """An integer in a range; one that fits 31 bits unless told."""
    return Rule(f"a whole number from {low} to {high}", lambda v: _is_whole(v) and low <= v <= high)


def amount() -> Rule:
    """How many of something: up to 1 it is a fraction of all, above 1 a count."""
    return Rule(
        "a fraction from 0 to 1 (1: all), or a whole number of examples above 1",
        lambda v: _is_number(v) and v >= 0 and (v <= 1 or v == int(v)),
    )


def truth() -> Rule:
    return Rule("True or False", lambda v: isinstance(v, bool))


def text() -> Rule:
    return Rule("text on one line", lambda v: isinstance(v, str) and v.isprintable())


def one_of(names: Iterable[str]) -> Rule:
    names = tuple(names)
    return Rule(f"one of: {', '.join(names)}", lambda v: isinstance(v, str) and v in names)


def tuple_of(rule: Rule) -> Rule:
    """A tuple or list, each element as `rule` says."""
    return Rule(
        f"a tuple, each element {rule.says}",
        lambda v: isinstance(v, tuple | list) and all(rule.accepts(element) for element in v),
    )


def set_of(rule: Rule) -> Rule:
    """A tuple or list of different elements, each as `rule` says."""
    every = tuple_of(rule)
    return Rule(
        f"{every.says}, none of them twice",
        lambda v: every.accepts(v) and len(set(v)) == len(v),
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
