"""Losses: pure functions of one example's logits, and the terms of an objective made of them."""

from kdjax.losses.ensembles import MEANS, ensemble_logits
from kdjax.losses.labels import cross_entropy
from kdjax.losses.logits import (
    distillation,
    kl_divergence,
    logit_matching,
    soft_cross_entropy,
)
from kdjax.losses.table import TERMS
from kdjax.losses.term import Context, Term

__all__ = [
    "MEANS",
    "TERMS",
    "Context",
    "Term",
    "cross_entropy",
    "distillation",
    "ensemble_logits",
    "kl_divergence",
    "logit_matching",
    "soft_cross_entropy",
]
