"""Logit standardisation: any term of targets, of logits with mean 0 and standard deviation 1.

Axes: C classes, after any others.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.losses.arrays import at_least_float32
from kdjax.losses.term import Context, Term
from kdjax.rules import InputError, Rule, check

EPSILON = 1e-7  # beside the standard deviation, as the authors have it


def standardize(logits: jax.Array) -> jax.Array:
    """(z - mean) / (standard deviation + 1e-7) over the classes (LSKD, arXiv 2403.01427).

    The standard deviation is that of a sample, with C - 1 below the sum of squares, as in the
    authors' code; it carries a gradient. Classes with a logit of -inf keep it and do not count.

    Args:
      logits: [..., C].

    Returns:
      [..., C].
    """
    logits = at_least_float32(logits)
    there = logits != -jnp.inf
    count = there.sum(axis=-1, keepdims=True)
    finite = jnp.where(there, logits, 0.0)
    centred = jnp.where(there, finite - finite.sum(axis=-1, keepdims=True) / count, 0.0)
    square = (centred**2).sum(axis=-1, keepdims=True) / jnp.maximum(count - 1, 1)
    deviation = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return jnp.where(there, centred / (deviation + EPSILON), -jnp.inf)


def standardized(term: Term) -> Term:
    """The term, of standardised logits of student and teachers (LSKD, arXiv 2403.01427).

    The student then matches the relations of the teacher's logits and not their size. The
    temperature is of the standardised logits; published for `kl_divergence` is T = 2 with a weight
    of 9. Several teachers are mixed first.

    Args:
      term: one that needs "targets", such as a row of `TERMS`.

    Returns:
      A Term with the needs and numbers of that term, and the name "standardized".

    Raises:
      InputError: it is no Term, or does not need targets.
    """
    check(Rule("a Term", lambda value: isinstance(value, Term)), "term", term)
    if "targets" not in term.needs or term.directions is not None:
        raise InputError(
            f"term is {term.label!r}, which needs no targets, or derivatives beside them; it must "
            "be one of logits and targets"
        )

    def function(context: Context) -> jax.Array:
        student = context.student._replace(logits=standardize(context.student.logits))
        targets = lambda temperature: standardize(context.targets(temperature))
        return term.function(dataclasses.replace(context, student=student, targets=targets))

    return dataclasses.replace(term, function=function, name="standardized")
