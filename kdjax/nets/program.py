"""What a net's traced program tells of the net: whether it convolves, and whether a part of a
batch may be trained on alone.

A program is traced with a batch whose size, a large prime times 64, no other axis has, so that the
axes of a batch can be told from all others by their sizes; nothing is computed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

Jaxpr = Any  # of jax.extend.core, open or closed
Equation = Any

MIXED, PLACED = 1, 2  # comes from several examples, or of one part alone; from `Training.places`
LOOPS = ("scan", "while", "cond")
SAME = ("mean_over_parts", "whole_batch")  # what they return is the same on every device
PRINTS = ("debug_callback", "debug_print")
RANDOM = ("random_bits", "random_split", "random_fold_in")


def batch_size(sizes: Sequence[int]) -> int:
    """A size of a batch that tells it from axes of these sizes; groups of up to 64 divide it."""
    prime = next(p for p in (1009, 1013, 1019, 1021, 1031) if all(n % p or not n for n in sizes))
    return 64 * prime


@jax.jit
def mean_over_parts(tree: Any) -> Any:
    """Stands for `Training.mean` in a program that is only traced; `splits` knows its name."""
    return tree


@jax.jit
def whole_batch(x: jax.Array) -> jax.Array:
    """Stands for `Context.gather` in a program that is only traced: a batch of another size, for
    `splits` to tell its axis from that of a part."""
    return jnp.concatenate([x, x[:1]])


def convolves(program: Jaxpr) -> bool:
    """Whether a convolution is anywhere in the program."""
    return any(e.primitive.name == "conv_general_dilated" for e in _equations(program))


def splits(program: Jaxpr, places: int, size: int) -> bool:
    """Whether the results for each example, and all others, are the same whatever part of the
    batch it is trained with, if parts are averaged by `Training.mean` alone.

    Args:
      program: of a training step's forward pass.
      places: which of its arguments is `Training.places`.
      size: of the batch, from `batch_size`.
    """
    sources = [PLACED if n == places else 0 for n in range(len(program.jaxpr.invars))]
    return not any(flag & MIXED for flag in _flow(program.jaxpr, sources, size // 64))


def silent(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, without what it prints by `jax.debug`."""
    traced, found = jax.make_jaxpr(function, return_shape=True)(*arguments)
    if not traced.effects:
        return function(*arguments)
    leaves = jaxpr_as_fun(_without_debug(traced))(*jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(found), leaves)


def _without_debug(value: Any) -> Any:
    """A program, or another parameter of an equation, without the equations that only print."""
    if isinstance(value, tuple | list):
        return type(value)(map(_without_debug, value)) if type(value) in (tuple, list) else value
    if hasattr(value, "eqns") and hasattr(value, "jaxpr"):
        return value.replace(jaxpr=_without_debug(value.jaxpr))
    if not hasattr(value, "eqns"):
        return value
    kept = lambda effects: {e for e in effects if "Debug" not in type(e).__name__}
    equations = [
        e.replace(
            params={name: _without_debug(inner) for name, inner in e.params.items()},
            effects=kept(e.effects),
        )
        for e in value.eqns
        if e.primitive.name not in PRINTS
    ]
    return value.replace(eqns=equations, effects=kept(value.effects))


def _flow(jaxpr: Jaxpr, sources: Sequence[int], prime: int) -> list[int]:
    """The flags of a program's results, by those of its arguments."""
    flags = dict(zip(jaxpr.invars, sources, strict=True))
    read = lambda v: 0 if hasattr(v, "val") else flags.get(v, 0)  # a literal has a value
    for equation in jaxpr.eqns:
        given = [read(v) for v in equation.invars]
        flags |= zip(equation.outvars, _results(equation, given, prime), strict=True)
    return [read(v) for v in jaxpr.outvars]


def _results(equation: Equation, given: list[int], prime: int) -> list[int]:
    if equation.params.get("name") in SAME:
        return [0] * len(equation.outvars)
    inner = list(_inner(equation))
    if len(inner) == 1 and equation.primitive.name not in LOOPS:
        called = getattr(inner[0], "jaxpr", inner[0])
        if len(called.invars) == len(given):
            return _flow(called, given, prime)
    flag = 0
    for source in given:
        flag |= source
    every = [equation, *(e for jaxpr in inner for e in _equations(jaxpr))]
    if any(_mixes(e, given if e is equation else [], prime) for e in every):
        flag |= MIXED
    return [flag] * len(equation.outvars)


def _mixes(equation: Equation, given: list[int], prime: int) -> bool:
    """Whether a result depends on several examples, or on an example's place in its part."""
    name = equation.primitive.name
    before = [_batch_axes(v, prime) for v in equation.invars]
    after = [_batch_axes(v, prime) for v in equation.outvars]
    if name in RANDOM:
        by_place = name == "random_fold_in" and any(flag & PLACED for flag in given[1:])
        return any(after) and not before[0] and not by_place
    if name == "scan" and equation.params["length"] % prime == 0:  # over examples
        inside = [v for jaxpr in _inner(equation) for v in _open(jaxpr).invars]
        if any(_batch_axes(v, prime) for v in inside):
            return True
    most = max(before, default=0)
    return most > 0 and (min(after, default=0) == 0 or max(after) > most)


def _batch_axes(variable: Any, prime: int) -> int:
    """How many axes of a variable are, or are made of, examples."""
    return sum(n > 0 and n % prime == 0 for n in getattr(variable.aval, "shape", ()))


def _open(jaxpr: Jaxpr) -> Jaxpr:
    """A program without the constants that it is closed over, if it is."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def _equations(jaxpr: Jaxpr) -> Iterator[Equation]:
    """All equations, those of inner programs too."""
    for equation in _open(jaxpr).eqns:
        yield equation
        for inner in _inner(equation):
            yield from _equations(inner)


def _inner(equation: Equation) -> Iterator[Jaxpr]:
    """The programs that an equation calls."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "eqns") or hasattr(getattr(one, "jaxpr", None), "eqns"):
                yield one
