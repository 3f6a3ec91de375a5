"""The terms that a config names."""

from collections.abc import Callable

from kdjax.losses.derivative_terms import jacobian_matching, tangent_propagation
from kdjax.losses.dirichlet import dirichlet_likelihood, per_teacher
from kdjax.losses.labels import cross_entropy
from kdjax.losses.logits import kl_divergence, logit_matching, soft_cross_entropy
from kdjax.losses.term import Context, Term
from kdjax.rules import fraction


def _cross_entropy(context: Context):
    smoothing = context.hparams["label_smoothing"]
    return cross_entropy(context.student.logits, context.labels, smoothing)


def _soft(loss: Callable) -> Callable:
    """A loss of soft targets, at the temperature of both nets."""

    def term(context: Context):
        temperature = context.hparams["temperature"]
        return loss(context.student.logits, context.targets(temperature), temperature)

    return term


def _dirichlet(context: Context):
    assert context.teacher is not None
    temperature, smoothing = context.hparams["temperature"], context.hparams["smoothing"]
    logits, said = context.student.logits, context.teacher.logits
    return dirichlet_likelihood(logits, said, temperature, smoothing, context.mixing)


def _per_teacher(context: Context):
    assert context.teacher is not None
    heads, said = context.student.features["heads"], context.teacher.logits
    return per_teacher(heads, said, context.hparams["temperature"], context.mixing)


TERMS: dict[str, Term | Callable[..., Term]] = {
    "cross_entropy": Term(
        _cross_entropy,
        needs=frozenset({"labels"}),
        hparams={"label_smoothing": (0.0, fraction())},
        name="cross_entropy",
    ),
    "soft_cross_entropy": Term(
        _soft(soft_cross_entropy),
        needs=frozenset({"targets"}),
        hparams={"temperature": None},
        name="soft_cross_entropy",
    ),
    "kl_divergence": Term(
        _soft(kl_divergence),
        needs=frozenset({"targets"}),
        hparams={"temperature": None},
        name="kl_divergence",
    ),
    "logit_matching": Term(
        lambda context: logit_matching(context.student.logits, context.targets(None)),
        needs=frozenset({"targets"}),
        name="logit_matching",
    ),
    "jacobian_matching": jacobian_matching,
    "tangent_propagation": tangent_propagation,
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
}
