"""Losses: pure functions of one example's logits, and the terms of an objective made of them."""

from kdjax.losses.derivatives import (
    derivative_matching,
    log_softmax_derivatives,
    random_directions,
    tangent_penalty,
    translations,
)
from kdjax.losses.dirichlet import dirichlet_likelihood, per_teacher
from kdjax.losses.ensembles import MEANS, ensemble_derivatives, ensemble_logits
from kdjax.losses.labels import cross_entropy
from kdjax.losses.logits import (
    distillation,
    kl_divergence,
    logit_matching,
    soft_cross_entropy,
)
from kdjax.losses.table import TERMS
from kdjax.losses.term import Context, Derivatives, Term

__all__ = [
    "MEANS",
    "TERMS",
    "Context",
    "Derivatives",
    "Term",
    "cross_entropy",
    "derivative_matching",
    "dirichlet_likelihood",
    "distillation",
    "ensemble_derivatives",
    "ensemble_logits",
    "kl_divergence",
    "log_softmax_derivatives",
    "logit_matching",
    "per_teacher",
    "random_directions",
    "soft_cross_entropy",
    "tangent_penalty",
    "translations",
]
