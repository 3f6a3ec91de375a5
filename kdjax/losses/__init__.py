"""Losses: pure functions of logits, features and relations, and the terms of an objective made of
them."""

from kdjax.losses.contrastive import crd
from kdjax.losses.ensembles import MEANS, ensemble_logits
from kdjax.losses.features import attention_transfer, fitnet, ickd, nst, vid
from kdjax.losses.labels import cross_entropy
from kdjax.losses.logits import (
    distillation,
    kl_divergence,
    logit_matching,
    soft_cross_entropy,
)
from kdjax.losses.relations import (
    correlation_congruence,
    pkt,
    rkd_angle,
    rkd_distance,
    similarity_preserving,
)
from kdjax.losses.review import hierarchical_context
from kdjax.losses.table import TERMS
from kdjax.losses.term import Context, Term

__all__ = [
    "MEANS",
    "TERMS",
    "Context",
    "Term",
    "attention_transfer",
    "correlation_congruence",
    "crd",
    "cross_entropy",
    "distillation",
    "ensemble_logits",
    "fitnet",
    "hierarchical_context",
    "ickd",
    "kl_divergence",
    "logit_matching",
    "nst",
    "pkt",
    "rkd_angle",
    "rkd_distance",
    "similarity_preserving",
    "soft_cross_entropy",
    "vid",
]
