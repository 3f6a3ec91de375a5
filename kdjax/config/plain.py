"""What every part of a config is read with: dicts of known fields, and plain values."""

from collections.abc import Iterable, Mapping
from typing import Any

from kdjax import rules
from kdjax.rules import InputError


def no_others(path: str, values: Mapping[str, Any], allowed: Iterable[str]) -> None:
    allowed = tuple(allowed)
    for name in values:
        if name not in allowed:
            raise InputError(
                f"{path} has no field {rules.shown(name)}{rules.did_you_mean(name, allowed)}; it "
                f"must be {rules.one_of(allowed).says}"
            )


def mapping(path: str, value: Any) -> dict[Any, Any]:
    """A dict or ConfigDict as a dict, whose inner ones stay as they are."""
    if not hasattr(value, "items"):
        raise InputError(f"{path} is {rules.shown(value)}; it must be a dict of fields")
    return dict(value.items())


def frozen(value: Any) -> Any:
    """The value as plain, hashable Python."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value
