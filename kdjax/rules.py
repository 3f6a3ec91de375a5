"""What a configuration value may be, said in words, and the one error a user's input raises."""

import dataclasses
import difflib
import importlib
import math
import numbers
import os
import re
import traceback
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


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """ ", did you mean 'steps'" for "step", or nothing where no known name is close."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def choose(table: Iterable[str], path: str, name: Any, otherwise: str = "") -> str:
    """Returns `name` if the table has it, else raises InputError with the choices."""
    rule = one_of(table)
    says = f"{rule.says}, {otherwise}" if otherwise else rule.says
    return check(Rule(says, rule.accepts), path, name)


def is_reference(text: str) -> bool:
    """Whether it reads "module:attribute", as "my_package.nets:TinyNet" does and "mnist:3.0.1" does
    not."""
    name = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
    return re.fullmatch(f"{name}:{name}", text) is not None


def resolve(reference: str, path: str) -> Any:
    """The object that "module:attribute" names; the module is imported, which runs its code.

    Args:
      path: of the field that has the reference, for messages.

    Raises:
      InputError: there is no such module or attribute, or the module cannot be imported.
    """
    module, _, attribute = reference.partition(":")
    says = f"{path} is {shown(reference)}"
    if not is_reference(reference):
        raise InputError(f"{says}; it must be module:attribute, such as my_nets:TinyNet")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's module raises
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            raise InputError(f"{says}; there is no module {missing!r} to import") from error
        raise InputError(f"{says}, whose module cannot be imported: {told(error)}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            close = difflib.get_close_matches(attribute, dir(found), 1)
            hint = f"; did you mean {module}:{close[0]}?" if close else ""
            raise InputError(f"{says}; module {module!r} has no {attribute!r}{hint}")
        found = getattr(found, name)
    return found


def told(error: BaseException) -> str:
    """What the user's own code raised, on one line: type, message, file and line."""
    above = tuple(os.path.dirname(file) + os.sep for file in (__file__, importlib.__file__))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if os.path.isfile(f.filename)]
    frames = [f for f in frames if not f.filename.startswith(above)]
    message = " ".join(str(error).split())[:300]
    where = [f for f in frames if f.filename == frames[0].filename][-1:]
    place = "".join(f" ({os.path.basename(f.filename)}, line {f.lineno})" for f in where)
    return f"{type(error).__name__}{': ' * bool(message)}{message}{place}"


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
