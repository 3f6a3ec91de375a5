"""How uncertain the predictions for an example are, and in which way: what an ensemble knows beyond
its mean, and a student that keeps it.

The entropy of the mean prediction has two parts: the mean of the entropies, which is of the data,
and the rest, the mutual information of prediction and net, by which nets disagree (arXiv
1905.00076, section 2).

Axes: K nets or heads, C classes, after any others. NumPy and SciPy, in float64 and nats.
"""

from typing import Any

import numpy as np
from scipy.special import digamma, log_softmax, logsumexp, xlogy

from kdjax.rules import InputError

Array = np.ndarray
MEASURES = ("predictive_entropy", "mutual_information", "expected_pairwise_kl")


def of_nets(logits: Any) -> dict[str, Array]:
    """What K nets, or K heads of one, say together.

    Args:
      logits: [K, ..., C].

    Returns:
      [...] of each of `MEASURES`; `expected_pairwise_kl` is the mean over all K x K pairs of
      KL(one || other).

    Raises:
      InputError: there is no axis of nets.
    """
    logits = np.asarray(logits, np.float64)
    if logits.ndim < 2:
        raise InputError(f"logits has shape {logits.shape}; it must be [K, ..., C], of K nets")
    log_p = log_softmax(logits, axis=-1)
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    p, mean = np.exp(log_p), np.exp(log_mean)
    entropies = -_times(p, log_p).sum(axis=-1)
    predictive = -_times(mean, log_mean).sum(axis=-1)
    cross = -_times(mean, log_p.mean(axis=0)).sum(axis=-1)
    return {
        "predictive_entropy": predictive,
        "mutual_information": predictive - entropies.mean(axis=0),
        "expected_pairwise_kl": cross - entropies.mean(axis=0),
    }


def of_dirichlet(log_concentrations: Any) -> dict[str, Array]:
    """What a Dirichlet distribution says, as K nets drawn from it without end would.

    Args:
      log_concentrations: [..., C], the logits of a net that was taught by the term `dirichlet`.

    Returns:
      [...] of each of `MEASURES`.

    Raises:
      InputError: there is no axis of classes.
    """
    log_a = np.asarray(log_concentrations, np.float64)
    if log_a.ndim < 1:
        raise InputError(f"log_concentrations is {log_a}; it must be [..., C]")
    a, log_p = np.exp(log_a), log_softmax(log_a, axis=-1)
    total, mean = a.sum(axis=-1), np.exp(log_p)
    predictive = -xlogy(mean, mean).sum(axis=-1)
    expected = digamma(total + 1) - (mean * digamma(a + 1)).sum(axis=-1)
    return {
        "predictive_entropy": predictive,
        "mutual_information": predictive - expected,
        "expected_pairwise_kl": (a.shape[-1] - 1) / total,
    }


def auroc(inside: Any, outside: Any) -> float:
    """How well a number tells two sets of examples apart: the chance that it is larger for one from
    `outside` than for one from `inside`, where equal ones count half; 0.5 is no better than chance.

    Args:
      inside: [n] numbers, such as the mutual information, of the test images.
      outside: [m] of another data set's.

    Raises:
      InputError: a set is empty, or a number is NaN.
    """
    inside, outside = np.sort(np.ravel(inside)), np.ravel(outside)
    for name, values in (("inside", inside), ("outside", outside)):
        if not len(values) or np.isnan(values).any():
            raise InputError(f"{name} has {len(values)} numbers; it must have some, and none NaN")
    below = np.searchsorted(inside, outside, "left") + np.searchsorted(inside, outside, "right")
    return float(below.mean() / 2 / len(inside))


def _times(p: Array, log_p: Array) -> Array:
    """p log p, 0 for a class that is masked."""
    return np.where(p == 0, 0.0, p * np.where(p == 0, 0.0, log_p))
