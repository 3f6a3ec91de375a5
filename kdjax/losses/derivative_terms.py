"""Terms of the derivatives of logits along directions of the inputs."""

from collections.abc import Callable

import jax

from kdjax.losses.derivatives import (
    derivative_matching,
    random_directions,
    tangent_penalty,
    translations,
)
from kdjax.losses.term import Context, Term
from kdjax.rules import check, one_of, whole

OF = one_of(("log_probabilities", "logits"))
TARGET = one_of(("teacher", "zero"))


def jacobian_matching(directions: int = 1, of: str = "log_probabilities") -> Term:
    """`derivative_matching` along random directions, an estimate of the squared distance of the
    whole Jacobians (arXiv 1803.00443, 1706.04859).

    Args:
      directions: how many, new ones for each example at each step.
      of: "log_probabilities" at the temperature, or "logits", centred.

    Raises:
      InputError: an argument is not of these.
    """
    check(whole(1), "directions", directions)
    return _matching("jacobian_matching", random_directions(directions), of)


def tangent_propagation(target: str = "teacher", of: str = "log_probabilities") -> Term:
    """Derivatives along small translations of the image itself, per pixel down and to the right
    (Simard, Victorri, LeCun and Denker 1991).

    Args:
      target: "teacher" has its derivatives matched; "zero", without a teacher, asks that nothing
        changes as the image moves.
      of: "log_probabilities" at the temperature, or "logits", centred.

    Raises:
      InputError: an argument is not of these.
    """
    check(TARGET, "target", target)
    if target == "teacher":
        return _matching("tangent_propagation", translations, of)

    def penalty(context: Context) -> jax.Array:
        assert context.derivatives is not None
        temperature = context.hparams.get("temperature")
        return tangent_penalty(context.student.logits, context.derivatives.student, temperature)

    return Term(penalty, hparams=_numbers(of), directions=translations, name="tangent_propagation")


def _matching(name: str, directions: Callable[[jax.Array, jax.Array], jax.Array], of: str) -> Term:
    def term(context: Context) -> jax.Array:
        assert context.derivatives is not None
        temperature = context.hparams.get("temperature")
        return derivative_matching(
            context.student.logits,
            context.derivatives.student,
            context.targets(temperature),
            context.derivatives.targets(temperature),
            temperature,
        )

    needs = frozenset({"targets"})
    return Term(term, needs=needs, hparams=_numbers(of), directions=directions, name=name)


def _numbers(of: str) -> dict[str, None]:
    return {} if check(OF, "of", of) == "logits" else {"temperature": None}
