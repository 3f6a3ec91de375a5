"""The terms that a config names."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from kdjax.losses.contrastive import crd_row
from kdjax.losses.decoupled import dkd, hard_label, nkd, virtual_teacher
from kdjax.losses.derivative_terms import jacobian_matching, tangent_propagation
from kdjax.losses.dirichlet import dirichlet_likelihood, per_teacher
from kdjax.losses.divergences import (
    jensen_shannon,
    log_softmax_l2,
    reverse_kl,
    skew_kl,
    top_k_kl,
)
from kdjax.losses.features import FEATURES
from kdjax.losses.labels import cross_entropy
from kdjax.losses.logits import kl_divergence, logit_matching, soft_cross_entropy
from kdjax.losses.matching import dist, ttm, wttm
from kdjax.losses.relations import RELATIONS
from kdjax.losses.review import review_kd
from kdjax.losses.standardize import standardized
from kdjax.losses.term import TEMPERATURE, WEIGHT, Context, Term
from kdjax.rules import InputError, Rule, check, choose, fraction, number, tuple_of

LABELS, TARGETS = frozenset({"labels"}), frozenset({"targets"})
SHARE = number(0, 1)
PROBABILITY = Rule("a number above 0 and below 1", lambda v: fraction().accepts(v) and v > 0)
T: Mapping[str, None] = {"temperature": None}  # the stage's, unless the term has one of its own


def _row(
    loss: Callable[..., jax.Array],
    needs: frozenset[str],
    hparams: Mapping[str, Any] | None = None,
    at: str | float | None = "temperature",
    name: str = "",
) -> Term:
    """A loss as a term: its numbers are given by their names.

    Args:
      at: the temperature at which the teachers are mixed: that of both nets, or a fixed one; None
        for the mean of the logits.
      name: the loss's own if "".
    """
    hparams = hparams or {}

    def function(context: Context) -> jax.Array:
        given: dict[str, Any] = {name: context.hparams[name] for name in hparams}
        if "targets" in needs:
            given["teacher_logits"] = context.targets(given[at] if isinstance(at, str) else at)
        if "labels" in needs:
            given["labels"] = context.labels
        return loss(context.student.logits, **given)

    return Term(function, needs=needs, hparams=hparams, name=name or loss.__name__)


def _dist(context: Context) -> jax.Array:
    temperature = context.hparams["temperature"]
    logits = context.student.logits, context.targets(temperature)
    student, teacher = (context.gather(z) for z in logits)
    beta, gamma = context.hparams["beta"], context.hparams["gamma"]
    return dist(student, teacher, temperature, beta, gamma)


def _top_k_kl(k: int = 5) -> Term:
    return _row(functools.partial(top_k_kl, k=k), TARGETS, T, name="top_k_kl")


def _multi_temperature(temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0)) -> Term:
    check(tuple_of(TEMPERATURE), "temperatures", temperatures)
    if not temperatures:
        raise InputError("temperatures is (); there must be at least one")

    def function(context: Context) -> jax.Array:
        student = context.student.logits
        each = [kl_divergence(student, context.targets(t), t) for t in temperatures]
        return sum(each[1:], each[0]) / len(each)

    return Term(function, needs=TARGETS, name="multi_temperature")


def _standardized(term: str = "kl_divergence") -> Term:
    row = TERMS[choose([name for name in TERMS if name != "standardized"], "term", term)]
    return standardized(row if isinstance(row, Term) else row())


def _dirichlet(context: Context):
    assert context.teacher is not None
    temperature, smoothing = context.hparams["temperature"], context.hparams["smoothing"]
    student, teacher = context.student.logits, context.teacher.logits
    return dirichlet_likelihood(student, teacher, temperature, smoothing, context.mixing)


def _per_teacher(context: Context):
    assert context.teacher is not None
    heads, teacher = context.student.features["heads"], context.teacher.logits
    return per_teacher(heads, teacher, context.hparams["temperature"], context.mixing)


TERMS: dict[str, Term | Callable[..., Term]] = {
    # Of labels.
    "cross_entropy": _row(cross_entropy, LABELS, {"label_smoothing": (0.0, fraction())}),
    "virtual_teacher": _row(
        virtual_teacher,
        LABELS,
        {"temperature": 20.0, "correct_probability": (0.99, PROBABILITY)},
    ),
    # Of the teachers' logits.
    "soft_cross_entropy": _row(soft_cross_entropy, TARGETS, T),
    "kl_divergence": _row(kl_divergence, TARGETS, T),
    "logit_matching": _row(logit_matching, TARGETS, at=None),
    "reverse_kl": _row(reverse_kl, TARGETS, T),
    "jensen_shannon": _row(jensen_shannon, TARGETS, {**T, "beta": (0.5, SHARE)}),
    "skew_kl": _row(skew_kl, TARGETS, {**T, "skew": (0.1, fraction())}),
    "log_softmax_l2": _row(log_softmax_l2, TARGETS, at=1.0),
    "hard_label": _row(hard_label, TARGETS, at=1.0),
    "dkd": _row(dkd, LABELS | TARGETS, {**T, "alpha": (1.0, WEIGHT), "beta": (8.0, WEIGHT)}),
    "nkd": _row(nkd, LABELS | TARGETS, {**T, "gamma": (1.5, WEIGHT)}, at=1.0),
    "ttm": _row(ttm, TARGETS, T, at=1.0),
    "wttm": _row(wttm, TARGETS, T, at=1.0),
    "dist": Term(
        _dist,
        needs=TARGETS,
        hparams={**T, "beta": (1.0, WEIGHT), "gamma": (1.0, WEIGHT)},
        name="dist",
    ),
    "top_k_kl": _top_k_kl,
    "multi_temperature": _multi_temperature,
    "standardized": _standardized,
    # Of each teacher's logits.
    "dirichlet": Term(
        _dirichlet,
        needs=frozenset({"teacher"}),
        hparams={"temperature": None, "smoothing": (1e-4, fraction())},
        name="dirichlet",
    ),
    "per_teacher": Term(
        _per_teacher,
        needs=frozenset({"teacher"}),
        hparams={"temperature": None},
        student=("heads",),
        name="per_teacher",
    ),
    # Of derivatives.
    "jacobian_matching": jacobian_matching,
    "tangent_propagation": tangent_propagation,
    # Of layers.
    **FEATURES,
    **RELATIONS,
    "crd": crd_row,
    "review_kd": review_kd,
}
