"""The objective of a stage: its terms, from a config or from Python."""

from collections.abc import Callable, Mapping
from typing import Any

from kdjax import rules
from kdjax.config.plain import frozen, mapping, no_others
from kdjax.config.spec import TermSpec
from kdjax.losses import TERMS, Term
from kdjax.losses.term import WEIGHT
from kdjax.nets import calls
from kdjax.rules import InputError, check

LABELS = {"cross_entropy": 1.0}  # the objective of a stage that names none


def objective_of(path: str, value: Any) -> tuple[TermSpec, ...]:
    """Terms by name, each with its weight, or with its numbers and options."""
    if isinstance(value, Term | str):
        value = {value: 1.0}
    if not isinstance(value, Mapping) and not hasattr(value, "items"):
        raise InputError(
            f"{path} is {rules.shown(value)}; it must be a dict of terms, or one kdjax.Term"
        )
    parts = [_term(path, key, given) for key, given in value.items()]
    names = [part.name for part in parts]
    if not parts:
        raise InputError(f"{path} is empty; it must have at least one term")
    if len(set(names)) < len(names):
        raise InputError(f"{path} has the terms {', '.join(names)}; each must have its own name")
    return tuple(sorted(parts, key=lambda part: part.name))  # sums are the same in any order


def _term(path: str, key: Any, given: Any) -> TermSpec:
    if isinstance(key, Term):
        name, source, found = key.label, "", key
        values = _numbers(f"{path}.{name}", given)
    else:
        name = str(key).rpartition(":")[2]
        values = _numbers(f"{path}.{name}", given)
        names_another = calls.takes(TERMS.get(str(key)), "term")  # it is an option of that row
        source = str(key if names_another else values.pop("term", key))
        found = _find(TERMS, f"{path}.{name}", source)
    here, options = f"{path}.{name}", {}
    if not isinstance(found, Term):
        options = {k: v for k, v in values.items() if calls.takes(found, k)}
        found = _made(here, found, options)
    if not isinstance(found, Term):
        raise InputError(f"{here} is {rules.shown(found)}; it must be a Term, or a function of one")
    numbers = {k: v for k, v in values.items() if k not in options}
    rules_of = {n: rule for n, (_, rule) in {**found.numbers, **found.ends}.items()}
    no_others(here, numbers, rules_of)
    known = {n: default for n, (default, _) in found.numbers.items() if default is not None}
    for number, value in numbers.items():
        check(rules_of[number], f"{here}.{number}", value)
    return TermSpec(
        name,
        found,
        source,
        frozen(tuple(options.items())),
        frozen(tuple((known | numbers).items())),
    )


def _numbers(path: str, given: Any) -> dict[str, Any]:
    if isinstance(given, int | float) and not isinstance(given, bool):
        return {"weight": check(WEIGHT, path, given)}
    return mapping(path, given)


def _find(table: Mapping[str, Any], path: str, name: str) -> Any:
    """A row of a table, or what `module:attribute` names."""
    if rules.is_reference(name):
        return rules.resolve(name, path)
    return table[rules.choose(table, path, name, "or module:attribute")]


def _made(path: str, function: Callable, options: dict[str, Any]) -> Any:
    try:
        return function(**options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # whatever a function of the user's raises
        raise InputError(f"{path} has the options {options}: {rules.told(error)}") from error
