"""Per-example losses, [B, C] -> [B], and the table a stage picks its loss from.

Axes: B batch, C classes. Every loss computes in at least float32 and in log space, sums over
classes, never reduces over the batch, and lets no gradient into the teacher. `T` is the
temperature; the factor T^2 that keeps soft gradients comparable across temperatures (arXiv
1503.02531, section 2) is applied here and nowhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp


def cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: jax.Array | float = 0.0
) -> jax.Array:
    """Cross-entropy with hard labels at T = 1, in nats.

    With `label_smoothing` e the target is `(1 - e) one_hot(label) + e / C` (arXiv 1512.00567).

    Args:
      logits: [B, C].
      labels: [B] integers in 0..C-1; an example with a negative label has no label and costs 0.
      label_smoothing: scalar or [B], in [0, 1).

    Returns:
      [B].
    """
    logits = _at_least_float32(logits)
    chex.assert_rank([logits, labels], [2, 1])
    chex.assert_equal_shape_prefix([logits, labels], 1)
    log_q = jax.nn.log_softmax(logits)
    target_log_q = jnp.take_along_axis(log_q, jnp.maximum(labels, 0)[:, None], axis=1)[:, 0]
    loss = -(1 - label_smoothing) * target_log_q - label_smoothing * log_q.mean(axis=1)
    return jnp.where(labels >= 0, loss, 0.0)


def soft_cross_entropy(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """T^2 times the cross-entropy with the teacher's soft targets (arXiv 1503.02531, section 2).

    Its gradient is that of `kl_divergence`; its floor is T^2 times the entropy of the targets.

    Args:
      student_logits, teacher_logits: [B, C].
      temperature: scalar T > 0, used for both.

    Returns:
      [B], in nats times T^2.
    """
    student_logits, teacher_logits = _pair(student_logits, teacher_logits)
    log_q = jax.nn.log_softmax(student_logits / temperature)
    p = jax.nn.softmax(teacher_logits / temperature)
    return temperature**2 * -jnp.sum(p * log_q, axis=1)


def kl_divergence(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """T^2 KL(teacher || student) at temperature T (arXiv 1503.02531, section 2).

    Never negative, and zero where student equals teacher. The gradient in the student's logits
    is `T (q - p)`.

    Args:
      student_logits, teacher_logits: [B, C].
      temperature: scalar T > 0, used for both.

    Returns:
      [B], in nats times T^2.
    """
    student_logits, teacher_logits = _pair(student_logits, teacher_logits)
    log_q = jax.nn.log_softmax(student_logits / temperature)
    log_p = jax.nn.log_softmax(teacher_logits / temperature)
    # KL = sum(p r - p + q) with r = log(p / q). Each term is non-negative, so nothing cancels as
    # T grows, where sum(p r) would lose all its digits; q (r e^r - (e^r - 1)) is that term for
    # small r, and the other form cannot overflow for large r. Below -100, p is 0.
    r = log_p - log_q
    small = jnp.clip(r, -100.0, 1.0)
    near = jnp.exp(log_q) * (small * jnp.exp(small) - jnp.expm1(small))
    far = jnp.exp(log_p) * (r - 1) + jnp.exp(log_q)
    return temperature**2 * jnp.sum(jnp.where(r < 1, near, far), axis=1)


def logit_matching(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """Half the squared difference of the centred logits, summed over classes.

    Centring ignores the shift that a softmax ignores. `kl_divergence` tends to this divided by C
    as T grows (arXiv 1503.02531, section 2.1).

    Args:
      student_logits, teacher_logits: [B, C].

    Returns:
      [B].
    """
    student_logits, teacher_logits = _pair(student_logits, teacher_logits)
    difference = student_logits - teacher_logits
    centred = difference - difference.mean(axis=1, keepdims=True)
    return 0.5 * jnp.sum(centred**2, axis=1)


def distillation(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    labels: jax.Array,
    temperature: jax.Array | float,
    soft_weight: jax.Array | float,
    hard_weight: jax.Array | float,
) -> jax.Array:
    """`soft_weight * kl_divergence + hard_weight * cross_entropy` (arXiv 1503.02531, section 2).

    The label term is at T = 1, and is 0 for examples without a label: in a mean over a batch of
    which a tenth is labelled, it weighs a tenth of `hard_weight`.

    Args:
      student_logits, teacher_logits: [B, C].
      labels: [B]; negative where an example has none.
      temperature: scalar T > 0 of the soft term.
      soft_weight, hard_weight: scalars >= 0.

    Returns:
      [B].
    """
    student_logits, teacher_logits = _pair(student_logits, teacher_logits)
    soft = kl_divergence(student_logits, teacher_logits, temperature)
    return soft_weight * soft + hard_weight * cross_entropy(student_logits, labels)


@dataclass(frozen=True)
class Loss:
    """An entry of `LOSSES`.

    `function(student_logits [B, C], teacher_logits [B, C], labels [B], hparams) -> [B]`, for one
    member. `teacher` and `labels` say what it needs; `hparams` which per-member numbers it reads,
    so that a sweep of another one is refused.
    """

    function: Callable[..., jax.Array]
    teacher: bool
    labels: bool
    hparams: tuple[str, ...] = ()


LOSSES = {
    "cross_entropy": Loss(
        lambda z, v, y, h: cross_entropy(z, y, h.label_smoothing),
        teacher=False,
        labels=True,
        hparams=("label_smoothing",),
    ),
    "soft_cross_entropy": Loss(
        lambda z, v, y, h: soft_cross_entropy(z, v, h.temperature),
        teacher=True,
        labels=False,
        hparams=("temperature",),
    ),
    "kl_divergence": Loss(
        lambda z, v, y, h: kl_divergence(z, v, h.temperature),
        teacher=True,
        labels=False,
        hparams=("temperature",),
    ),
    "logit_matching": Loss(
        lambda z, v, y, h: logit_matching(z, v),
        teacher=True,
        labels=False,
    ),
    "distillation": Loss(
        lambda z, v, y, h: distillation(z, v, y, h.temperature, h.soft_weight, h.hard_weight),
        teacher=True,
        labels=True,
        hparams=("temperature", "soft_weight", "hard_weight"),
    ),
}


def _at_least_float32(logits: jax.Array) -> jax.Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _pair(student_logits: jax.Array, teacher_logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    chex.assert_rank([student_logits, teacher_logits], 2)
    chex.assert_equal_shape([student_logits, teacher_logits])
    return _at_least_float32(student_logits), jax.lax.stop_gradient(
        _at_least_float32(teacher_logits)
    )
