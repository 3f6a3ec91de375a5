"""Losses: pure functions per example."""

from kdjax.losses.logits import (
    LOSSES,
    Loss,
    cross_entropy,
    distillation,
    kl_divergence,
    logit_matching,
    soft_cross_entropy,
)

__all__ = [
    "LOSSES",
    "Loss",
    "cross_entropy",
    "distillation",
    "kl_divergence",
    "logit_matching",
    "soft_cross_entropy",
]
