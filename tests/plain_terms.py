"""Float64 NumPy references of the terms of logits, by name: the value [B] of each."""

import numpy as np
from test_losses import B, C, log_softmax, plain_kl_divergence

from kdjax import losses
from kdjax.losses.term import Context
from kdjax.nets.net import Outputs

BETA, SKEW, CORRECT, SEVERAL = 0.3, 0.1, 0.9, (1.0, 2.0, 5.0)
TARGET, OTHERS = 0.7, 3.0  # weights of the label's class and of all others


def kl(log_p, log_q):
    """Of the last axis; a class without probability costs nothing."""
    p = np.exp(log_p)
    return np.where(p > 0, p * (log_p - log_q), 0.0).sum(axis=-1)


def log_total(log_p):
    top = log_p.max(axis=-1, keepdims=True)
    return np.log(np.exp(log_p - top).sum(axis=-1)) + top[..., 0]


def plain_reverse_kl(z, v, y, t):
    return t**2 * kl(log_softmax(z / t), log_softmax(v / t))


def plain_jensen_shannon(z, v, y, t):
    s, p = log_softmax(z / t), log_softmax(v / t)
    m = np.logaddexp(np.log(BETA) + p, np.log(1 - BETA) + s)
    return t**2 * (BETA * kl(p, m) + (1 - BETA) * kl(s, m))


def plain_skew_kl(z, v, y, t):
    s, p = log_softmax(z / t), log_softmax(v / t)
    return t**2 * kl(p, np.logaddexp(np.log(SKEW) + p, np.log(1 - SKEW) + s))


def plain_log_softmax_l2(z, v, y, t):
    return np.sqrt(((log_softmax(z) - log_softmax(v)) ** 2).sum(axis=1) + 1e-12)


def plain_hard_label(z, v, y, t):
    return -log_softmax(z)[np.arange(B), v.argmax(axis=1)]


def plain_virtual_teacher(z, v, y, t):
    teacher = np.where(np.arange(C) == y[:, None], CORRECT, (1 - CORRECT) / (C - 1))
    return t**2 * kl(log_softmax(np.log(teacher) / t), log_softmax(z / t)) * (y >= 0)


def split(x, y, t):
    """log of (p(y), 1 - p(y)), [B, 2], and of the distribution over the others, [B, C - 1]."""
    log_p = log_softmax(x / t)
    others = np.stack([np.delete(row, label) for row, label in zip(log_p, y, strict=True)])
    rest = log_total(others)
    return np.stack([log_p[np.arange(B), y], rest], axis=1), others - rest[:, None]


def plain_dkd(z, v, y, t):
    (label_s, others_s), (label_p, others_p) = split(z, y, t), split(v, y, t)
    return t**2 * (TARGET * kl(label_p, label_s) + OTHERS * kl(others_p, others_s)) * (y >= 0)


def plain_nkd(z, v, y, t):
    label = np.exp(split(v, y, 1.0)[0][:, 0]) * split(z, y, 1.0)[0][:, 0]
    others = (np.exp(split(v, y, t)[1]) * split(z, y, t)[1]).sum(axis=1)
    return -(label + OTHERS * t**2 * others) * (y >= 0)


def plain_ttm(z, v, y, t):
    power = (1 / t) * log_softmax(v)
    return kl(power - log_total(power)[:, None], log_softmax(z))


def plain_wttm(z, v, y, t):
    return np.exp(log_total((1 / t) * log_softmax(v))) * plain_ttm(z, v, y, t)


def plain_top_k_kl(z, v, y, t, k=3):
    order = np.argsort(-v, axis=1, kind="stable")

    def buckets(x):
        log_p = np.take_along_axis(log_softmax(x / t), order, axis=1)
        return np.concatenate([log_p[:, :k], log_total(log_p[:, k:])[:, None]], axis=1)

    return t**2 * kl(buckets(v), buckets(z))


def plain_multi_temperature(z, v, y, t):
    return np.mean([plain_kl_divergence(z, v, y, t)[0] for t in SEVERAL], axis=0)


def plain_standard(x):
    return (x - x.mean(axis=1, keepdims=True)) / (x.std(axis=1, ddof=1, keepdims=True) + 1e-7)


def plain_standardized(z, v, y, t):
    return plain_kl_divergence(plain_standard(z), plain_standard(v), y, t)[0]


def plain_standardized_dkd(z, v, y, t):
    return plain_dkd(plain_standard(z), plain_standard(v), y, t)


def standardized(name, **numbers):
    """(z, v, y, t) -> the term of standardised logits, as a function of logits alone."""
    term = losses.standardized(losses.TERMS[name])

    def loss(z, v, y, t):
        given = Context(Outputs(z, {}), None, lambda _: v, z, y, {"temperature": t, **numbers})
        return term.function(given)

    return loss


CASES = {
    "reverse_kl": (lambda z, v, y, t: losses.reverse_kl(z, v, t), plain_reverse_kl),
    "jensen_shannon": (
        lambda z, v, y, t: losses.jensen_shannon(z, v, t, BETA),
        plain_jensen_shannon,
    ),
    "skew_kl": (lambda z, v, y, t: losses.skew_kl(z, v, t, SKEW), plain_skew_kl),
    "log_softmax_l2": (lambda z, v, y, t: losses.log_softmax_l2(z, v), plain_log_softmax_l2),
    "hard_label": (lambda z, v, y, t: losses.hard_label(z, v), plain_hard_label),
    "virtual_teacher": (
        lambda z, v, y, t: losses.virtual_teacher(z, y, t, CORRECT),
        plain_virtual_teacher,
    ),
    "dkd": (lambda z, v, y, t: losses.dkd(z, v, y, t, TARGET, OTHERS), plain_dkd),
    "nkd": (lambda z, v, y, t: losses.nkd(z, v, y, t, OTHERS), plain_nkd),
    "ttm": (lambda z, v, y, t: losses.ttm(z, v, t), plain_ttm),
    "wttm": (lambda z, v, y, t: losses.wttm(z, v, t), plain_wttm),
    "top_k_kl": (lambda z, v, y, t: losses.top_k_kl(z, v, t, k=3), plain_top_k_kl),
    "multi_temperature": (
        lambda z, v, y, t: losses.multi_temperature(z, v, SEVERAL),
        plain_multi_temperature,
    ),
    "standardized": (standardized("kl_divergence"), plain_standardized),
    "standardized_dkd": (
        standardized("dkd", alpha=TARGET, beta=OTHERS),
        plain_standardized_dkd,
    ),
}
