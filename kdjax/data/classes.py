"""The names of classes: their order, and which classes a user means by a name or a number."""

import difflib
import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from kdjax.data.sources import printable
from kdjax.rules import InputError, shown


def composed(name: str) -> str:
    """A name in Unicode's composed form, in which two spellings of one name are equal, with escapes
    for the letters that cannot be printed."""
    return printable(unicodedata.normalize("NFC", name))


def checked_names(says: str, names: Any, classes: int | None = None) -> tuple[str, ...]:
    """The names [C] of classes in the order of their logits, each `composed`.

    Args:
      says: begins the message where they cannot be used.
      classes: how many the logits have, where that is known.

    Raises:
      InputError: they are not two or more different texts in an order, or not as many.
    """
    if isinstance(names, str | Set | Mapping) or not isinstance(names, Iterable):
        raise InputError(
            f"{says} is {shown(names)}; it must be a list of text, in the order of the logits"
        )
    given = tuple(names)
    other = [name for name in given if not isinstance(name, str) or not name.strip()]
    if other:
        raise InputError(
            f"{says} has {shown(other[0])}; every name must be text, as "
            "[str(name) for name in class_names] makes it"
        )
    found = tuple(map(composed, given))
    if len(set(found)) < max(len(found), 2):
        raise InputError(f"{says} is {shown(given)}; it must be two or more different texts")
    if classes not in (None, len(found)):
        raise InputError(
            f"{says} has {len(found)} names, and the logits have {classes} classes; there must be "
            "as many"
        )
    return found


def alike(names: Iterable[str]) -> Iterator[str]:
    """What is said of classes whose names are almost the same, in one line."""
    key = lambda name: name.strip().casefold().lstrip("0")
    groups = (tuple(group) for _, group in itertools.groupby(sorted(names, key=key), key))
    found = [" and ".join(map(repr, group)) for group in groups if len(group) > 1]
    if found:
        more = f" (and {len(found) - 1} more such names)" * (len(found) > 1)
        yield (
            f"{found[0]}{more} are different classes, though their names differ in case, spaces or "
            "leading zeros alone"
        )


def ordered(names: Iterable[str]) -> list[str]:
    """Names in the order of their classes: by number where all are numbers, else by letter."""
    names = sorted(names)
    return sorted(names, key=int) if all(map(_is_number, names)) else names


def numbers(named: Sequence[int | str], class_names: Sequence[str], path: str) -> tuple[int, ...]:
    """The places [n] in the order of the logits of the classes that a user has named.

    Args:
      named: names, or places; those of classes whose names are other numbers only by name.
      path: of the field, for messages.

    Raises:
      InputError: there is no such class, one is named twice, or a place may mean a name.
    """
    return tuple(_distinct([_number(each, class_names, path) for each in named], named, path))


def _number(each: int | str, class_names: Sequence[str], path: str) -> int:
    if isinstance(each, str):
        each = composed(each)
        if each not in class_names:
            close = difflib.get_close_matches(each, class_names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"{path} has {each!r}; it must be of the classes {listed(class_names)}{hint}"
            )
        return list(class_names).index(each)
    names_are_numbers = all(map(_is_number, class_names))
    if names_are_numbers and list(map(int, class_names)) != list(range(len(class_names))):
        raise InputError(
            f"{path} has {each}, but the classes' names are numbers, {listed(class_names)}; it "
            f"must have a name as text, such as {class_names[-1]!r}"
        )
    if str(each) in class_names and list(class_names).index(str(each)) != each:
        raise InputError(
            f"{path} has {each}, but the class at that place is not the one with that name, "
            f"{str(each)!r}; it must have a name as text"
        )
    if each >= len(class_names):
        raise InputError(
            f"{path} has {each}; it must be of classes 0 to {len(class_names) - 1}, or their names"
        )
    return int(each)


def _distinct(found: list[int], named: Sequence[int | str], path: str) -> list[int]:
    if len(set(found)) < len(found):
        raise InputError(f"{path} is {shown(tuple(named))}; it must name each class once")
    return found


def difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """In what the classes `theirs` differ from `ours`, as a clause; "" where they are the same."""
    theirs, ours = list(theirs), list(ours)
    if theirs == ours:
        return ""
    more, fewer = [n for n in theirs if n not in ours], [n for n in ours if n not in theirs]
    if more or fewer:
        parts = [f"it alone has {listed(more)}"] * bool(more)
        parts += [f"this data set alone has {listed(fewer)}"] * bool(fewer)
        return f"{len(theirs)} classes are not this data set's {len(ours)}: {', '.join(parts)}"
    place = next(n for n, (one, other) in enumerate(zip(theirs, ours, strict=True)) if one != other)
    name = theirs[place]
    return f"class {place} is {shown(name)}, which is class {ours.index(name)} here"


def listed(names: Sequence[str | int], most: int = 6) -> str:
    """The first few names, and how many there are beside them."""
    words = ", ".join(map(repr, names[:most]))
    return words if len(names) <= most else f"{words} and {len(names) - most} more"


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
