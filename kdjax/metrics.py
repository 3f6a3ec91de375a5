"""What is measured on a split, as sums over examples that become numbers only at the end.

Axes: B batch, C classes. Teacher metrics compare distributions at T = 1.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kdjax.losses import cross_entropy, kl_divergence

__all__ = ["calibration", "finish", "sums"]

EXACT = jax.lax.Precision.HIGHEST  # of sums as products, which a GPU would round to 10 bits
BINS = 15  # of the calibration error: equal widths, arXiv 1706.04599
TEMPERATURES = tuple(2.0 ** (n / 4) for n in range(-12, 17))  # that are tried for calibration


def sums(
    logits: jax.Array, labels: jax.Array, teacher_logits: jax.Array | None
) -> dict[str, jax.Array]:
    """The sums over one batch, for one member.

    Args:
      logits: [B, C].
      labels: [B]; a negative one marks padding, which counts nowhere.
      teacher_logits: [B, C] of the teacher's distribution at T = 1, or None.

    Returns:
      Scalars, `calibration_gap` [BINS]: the sum of confidence minus correctness per bin, and
      `nll_at` [TEMPERATURES]: of the logits divided by each.
    """
    logits = logits.astype(jnp.float32)
    weight = (labels >= 0).astype(jnp.float32)
    p = jax.nn.softmax(logits)
    predicted = jnp.argmax(logits, axis=1)
    correct = (predicted == labels).astype(jnp.float32)
    confidence = p.max(axis=1)
    nll_at = lambda t: (weight * cross_entropy(logits / t, labels)).sum()
    one_hot = jax.nn.one_hot(labels, logits.shape[1])
    bins = _bins(confidence)
    totals = {
        "count": weight.sum(),
        "errors": (weight * (1 - correct)).sum(),
        "nll": (weight * cross_entropy(logits, labels)).sum(),
        "nll_at": jax.lax.map(nll_at, jnp.array(TEMPERATURES, jnp.float32)),
        "brier": (weight * jnp.sum((p - one_hot) ** 2, axis=1)).sum(),
        "calibration_gap": jnp.matmul(weight * (confidence - correct), bins, precision=EXACT),
    }
    if teacher_logits is not None:
        agreement = (predicted == jnp.argmax(teacher_logits, axis=1)).astype(jnp.float32)
        totals["agreement"] = (weight * agreement).sum()
        kl = kl_divergence(logits, teacher_logits, 1.0)
        totals["teacher_kl"] = jnp.where(weight > 0, kl, 0.0).sum()  # padding may cost infinity
    return totals


def finish(totals: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers from sums over the whole split, with any leading axes.

    Returns:
      `errors` (a count), `accuracy` and `agreement` (fractions), `nll` and `teacher_kl` (nats
      per example), `brier` (squared distance to the one-hot label), `ece` (a fraction),
      `calibration_temperature` (by which the logits are divided for the least nll).
    """
    count = totals["count"]
    numbers = {
        "errors": totals["errors"],
        "accuracy": 1 - totals["errors"] / count,
        "nll": totals["nll"] / count,
        "ece": np.abs(totals["calibration_gap"]).sum(axis=-1) / count,
        "brier": totals["brier"] / count,
        "calibration_temperature": _least(totals["nll_at"]),
    }
    for name in ("agreement", "teacher_kl"):
        if name in totals:
            numbers[name] = totals[name] / count
    return numbers


def _least(sums: np.ndarray) -> np.ndarray:
    """The temperature of the least sum [..., TEMPERATURES], by a parabola through the least and
    its neighbours (temperature scaling, arXiv 1706.04599); NaN where there is none.

    At either end of the range it is that end: the least is there or beyond.
    """
    sums = np.asarray(sums, np.float64)
    known = np.isfinite(sums).all(axis=-1)
    sums = np.where(known[..., None], sums, 0.0)
    place = sums.argmin(axis=-1)
    inner = np.clip(place, 1, len(TEMPERATURES) - 2)
    at = lambda p: np.take_along_axis(sums, p[..., None], axis=-1)[..., 0]
    below, least, above = at(inner - 1), at(inner), at(inner + 1)
    bend = below - 2 * least + above
    shift = np.where(bend > 0, (below - above) / np.where(bend > 0, 2 * bend, 1.0), 0.0)
    shift = np.where(place == inner, np.clip(shift, -0.5, 0.5), 0.0)
    step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
    return np.where(known, np.take(TEMPERATURES, place) * np.exp(step * shift), np.nan)


def calibration(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """How often one net is right, by how sure it is; the bins are those of `ece`.

    Args:
      logits: [N, C].
      labels: [N].

    Returns:
      [BINS] each: the `count` of examples, their mean `confidence`, and `accuracy`, the fraction
      that is right. Both are 0 where there is no example; see `without_empty_bins`.
    """
    p = jax.nn.softmax(logits.astype(jnp.float32))
    confidence, correct = p.max(axis=1), (p.argmax(axis=1) == labels).astype(jnp.float32)
    bins = _bins(confidence)
    count = bins.sum(axis=0)
    mean = lambda values: jnp.matmul(values, bins, precision=EXACT) / jnp.maximum(count, 1)
    return {"count": count, "confidence": mean(confidence), "accuracy": mean(correct)}


def without_empty_bins(found: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """`calibration` with any leading axes, and NaN for the means of no example.

    On the host, where `jax_debug_nans` does not take the NaN for a fault.
    """
    count, confidence, accuracy = (
        np.asarray(found[n]) for n in ("count", "confidence", "accuracy")
    )
    means = {"confidence": confidence, "accuracy": accuracy}
    return {"count": count} | {n: np.where(count > 0, v, np.nan) for n, v in means.items()}


def _bins(confidence: jax.Array) -> jax.Array:
    """[B] -> [B, BINS], one-hot."""
    return jax.nn.one_hot(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, BINS)
