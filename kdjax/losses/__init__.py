"""Losses: pure functions of logits, features and relations, and the terms of an objective made of
them."""

from kdjax.losses.contrastive import crd, crd_log_normaliser, crd_negatives, crd_update_bank
from kdjax.losses.decoupled import dkd, hard_label, nkd, virtual_teacher
from kdjax.losses.derivatives import (
    derivative_matching,
    log_softmax_derivatives,
    random_directions,
    tangent_penalty,
    translations,
)
from kdjax.losses.dirichlet import dirichlet_likelihood, per_teacher
from kdjax.losses.divergences import (
    jensen_shannon,
    log_softmax_l2,
    multi_temperature,
    reverse_kl,
    skew_kl,
    top_k_kl,
)
from kdjax.losses.ensembles import MEANS, ensemble_derivatives, ensemble_logits
from kdjax.losses.features import attention_transfer, fitnet, ickd, nst, vid
from kdjax.losses.labels import cross_entropy
from kdjax.losses.logits import (
    distillation,
    kl_divergence,
    logit_matching,
    soft_cross_entropy,
)
from kdjax.losses.matching import dist, ttm, wttm
from kdjax.losses.relations import (
    correlation_congruence,
    pkt,
    rkd_angle,
    rkd_distance,
    similarity_preserving,
)
from kdjax.losses.review import hierarchical_context, review_maps, review_parameters
from kdjax.losses.standardize import standardize, standardized
from kdjax.losses.table import TERMS
from kdjax.losses.term import Context, Derivatives, Term

__all__ = [
    "MEANS",
    "TERMS",
    "Context",
    "Derivatives",
    "Term",
    "attention_transfer",
    "correlation_congruence",
    "crd",
    "crd_log_normaliser",
    "crd_negatives",
    "crd_update_bank",
    "cross_entropy",
    "derivative_matching",
    "dirichlet_likelihood",
    "dist",
    "distillation",
    "dkd",
    "ensemble_derivatives",
    "ensemble_logits",
    "fitnet",
    "hard_label",
    "hierarchical_context",
    "ickd",
    "jensen_shannon",
    "kl_divergence",
    "log_softmax_derivatives",
    "log_softmax_l2",
    "logit_matching",
    "multi_temperature",
    "nkd",
    "nst",
    "per_teacher",
    "pkt",
    "random_directions",
    "reverse_kl",
    "review_maps",
    "review_parameters",
    "rkd_angle",
    "rkd_distance",
    "similarity_preserving",
    "skew_kl",
    "soft_cross_entropy",
    "standardize",
    "standardized",
    "tangent_penalty",
    "top_k_kl",
    "translations",
    "ttm",
    "vid",
    "virtual_teacher",
    "wttm",
]
