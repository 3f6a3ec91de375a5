"""Pytrees as nested dicts with text as keys, the form in which variables are kept and saved."""

from dataclasses import dataclass
from typing import Any

import jax

PyTree = Any
Path = tuple[Any, ...]  # as jax.tree_util has it


def text(path: Path) -> tuple[str, ...]:
    """The keys of a path, such as DictKey("bias"), GetAttrKey("bias") or SequenceKey(0)."""
    return tuple(_text(key) for key in path)


@dataclass(frozen=True)
class Form:
    """The form of a pytree: with it, its leaves go to nested dicts and back.

    Attributes:
      names: the keys of each leaf in the nested dicts, in the order of `jax.tree.leaves`.
      structure: the pytree's own.
    """

    names: tuple[tuple[str, ...], ...]
    structure: Any

    @classmethod
    def of(cls, tree: PyTree) -> "Form":
        """The form of this pytree, whose leaves do not matter."""
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        return cls(tuple(text(path) or ("value",) for path in paths), jax.tree.structure(tree))

    def nested(self, tree: PyTree) -> dict[str, Any]:
        """The leaves of a pytree of this form as nested dicts; ValueError if it has another."""
        leaves = jax.tree.leaves(tree)
        result: dict[str, Any] = {}
        if len(leaves) != len(self.names):
            raise ValueError(f"there are {len(leaves)} variables, but there were {len(self.names)}")
        for (*parents, last), leaf in zip(self.names, leaves, strict=True):
            inner = result
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[last] = leaf
        return result

    def tree(self, nested: dict[str, Any]) -> PyTree:
        """The pytree that nested dicts came from; KeyError where they lack a leaf."""
        leaves = []
        for name in self.names:
            leaf = nested
            for key in name:
                leaf = leaf[key]
            leaves.append(leaf)
        return jax.tree.unflatten(self.structure, leaves)


def _text(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
