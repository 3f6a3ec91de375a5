"""What is measured on a split, as sums over examples that become numbers only at the end.

Axes: B batch, C classes. Teacher metrics compare distributions at T = 1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.losses import cross_entropy, kl_divergence

__all__ = ["calibration", "finish", "sums"]

BINS = 15  # of the calibration error: equal widths, arXiv 1706.04599


def sums(
    logits: jax.Array, labels: jax.Array, teacher_logits: jax.Array | None
) -> dict[str, jax.Array]:
    """The sums over one batch, for one member.

    Args:
      logits: [B, C].
      labels: [B]; a negative one marks padding, which counts nowhere.
      teacher_logits: [B, C] of the teacher's distribution at T = 1, or None.

    Returns:
      Scalars, and `calibration_gap` [BINS]: the sum of confidence minus correctness per bin.
    """
    logits = logits.astype(jnp.float32)
    weight = (labels >= 0).astype(jnp.float32)
    p = jax.nn.softmax(logits)
    predicted = jnp.argmax(logits, axis=1)
    correct = (predicted == labels).astype(jnp.float32)
    confidence = p.max(axis=1)
    one_hot = jax.nn.one_hot(labels, logits.shape[1])
    bins = _bins(confidence)
    totals = {
        "count": weight.sum(),
        "errors": (weight * (1 - correct)).sum(),
        "nll": (weight * cross_entropy(logits, labels)).sum(),
        "brier": (weight * jnp.sum((p - one_hot) ** 2, axis=1)).sum(),
        "calibration_gap": (weight * (confidence - correct)) @ bins,
    }
    if teacher_logits is not None:
        agreement = (predicted == jnp.argmax(teacher_logits, axis=1)).astype(jnp.float32)
        totals["agreement"] = (weight * agreement).sum()
        totals["teacher_kl"] = (weight * kl_divergence(logits, teacher_logits, 1.0)).sum()
    return totals


def finish(totals: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers from sums over the whole split, with any leading axes.

    Returns:
      `errors` (a count), `accuracy` and `agreement` (fractions), `nll` and `teacher_kl` (nats
      per example), `brier` (squared distance to the one-hot label), `ece` (a fraction).
    """
    count = totals["count"]
    numbers = {
        "errors": totals["errors"],
        "accuracy": 1 - totals["errors"] / count,
        "nll": totals["nll"] / count,
        "ece": np.abs(totals["calibration_gap"]).sum(axis=-1) / count,
        "brier": totals["brier"] / count,
    }
    for name in ("agreement", "teacher_kl"):
        if name in totals:
            numbers[name] = totals[name] / count
    return numbers


def calibration(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """How often one net is right, by how sure it is; the bins are those of `ece`.

    Args:
      logits: [N, C].
      labels: [N].

    Returns:
      [BINS] each: the `count` of examples, their mean `confidence`, and `accuracy`, the fraction
      that is right; NaN for the means of no example.
    """
    p = jax.nn.softmax(logits.astype(jnp.float32))
    confidence, correct = p.max(axis=1), (p.argmax(axis=1) == labels).astype(jnp.float32)
    bins = _bins(confidence)
    count = bins.sum(axis=0)
    means = {"confidence": confidence @ bins / count, "accuracy": correct @ bins / count}
    return {"count": count} | means


def _bins(confidence: jax.Array) -> jax.Array:
    """[B] -> [B, BINS], one-hot."""
    return jax.nn.one_hot(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, BINS)
