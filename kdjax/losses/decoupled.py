"""Losses that treat the label's class and all other classes apart.

Axes: C classes, after any others. Every loss is per example, in at least float32 and in log space,
and lets no gradient into the teacher. An example with a negative label has no label and costs 0. A
class whose logit is -inf in both nets costs nothing.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.arrays import (
    at_least_float32,
    labels_of,
    log_total,
    relative_entropy,
    student_and_teacher,
)
from kdjax.losses.labels import cross_entropy
from kdjax.rules import InputError


def hard_label(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """Cross-entropy at T = 1 with the class that the teacher names (DeiT, arXiv 2012.12877).

    Of classes with the same logit the teacher names the first. What it gets wrong is learned as it
    is.

    Args:
      student_logits, teacher_logits: [..., C].

    Returns:
      [...], in nats.

    Raises:
      InputError: the shapes differ.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    return cross_entropy(student_logits, teacher_logits.argmax(axis=-1))


def virtual_teacher(
    logits: jax.Array,
    labels: jax.Array,
    temperature: jax.Array | float = 20.0,
    correct_probability: jax.Array | float = 0.99,
) -> jax.Array:
    """T^2 KL(v || student) at temperature T, v made by hand of the label (Tf-KD, arXiv 1909.11723).

    At T = 1 the label has the probability a in v, and each other class (1 - a) / (C - 1), where C
    counts the classes whose logits are not -inf. This is the regularisation alone: the method
    weighs it beside `cross_entropy`. Equation 9 has no T^2. The authors' code takes the mean over
    classes, and compares the student at T = 1 with a softmax of the *probabilities* v divided by T,
    which is nearly uniform at T = 20: its weights do not carry over.

    Args:
      logits: [..., C].
      labels: [...] integers in 0..C-1, or negative.
      temperature: scalar T > 0, used for both.
      correct_probability: scalar a above 0 and below 1.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the labels are not integers, or do not have the shape of the logits without C.
    """
    logits = at_least_float32(logits)
    labels = labels_of(labels, logits)
    is_label, there = _is_label(labels, logits), logits != -jnp.inf
    others = jnp.maximum(there.sum(axis=-1, keepdims=True) - 1, 1)
    rest = jnp.log1p(-correct_probability) - jnp.log(others)
    teacher = jnp.where(is_label, jnp.log(correct_probability), jnp.where(there, rest, -jnp.inf))
    log_t = jax.nn.log_softmax(teacher.astype(logits.dtype) / temperature)
    log_s = jax.nn.log_softmax(logits / temperature)
    return _labelled(labels, temperature**2 * relative_entropy(log_t, log_s))


def dkd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    labels: jax.Array,
    temperature: jax.Array | float,
    alpha: jax.Array | float = 1.0,
    beta: jax.Array | float = 8.0,
) -> jax.Array:
    """Decoupled knowledge distillation (arXiv 2203.08679).

    `alpha T^2 KL(b(t) || b(s)) + beta T^2 KL(n(t) || n(s))` of teacher t and student s at
    temperature T, where b is the probability of the label and of all other classes together, and
    n the distribution over the other classes alone. With alpha 1 and beta 1 - t(label) it is
    `kl_divergence`. The method adds `cross_entropy`, and warms this up over 20 epochs.

    Args:
      student_logits, teacher_logits: [..., C].
      labels: [...] integers in 0..C-1, or negative.
      temperature: scalar T > 0, used for both.
      alpha, beta: scalars >= 0.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the shapes do not fit, the labels are not integers, or there are two classes, of
        which one is not the label, so that n is certain and beta changes nothing.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    labels = labels_of(labels, student_logits)
    _need_three(student_logits, "dkd", "beta")
    is_label = _is_label(labels, student_logits)

    def parts(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_p = jax.nn.log_softmax(logits / temperature)
        label, rest = _of_label(log_p, is_label), log_total(log_p, ~is_label)
        return jnp.stack([label, rest], axis=-1), _without_label(logits / temperature, is_label)

    (binary_s, others_s), (binary_t, others_t) = parts(student_logits), parts(teacher_logits)
    target, rest = relative_entropy(binary_t, binary_s), relative_entropy(others_t, others_s)
    loss = jnp.where(alpha == 0, 0.0, alpha * target) + jnp.where(beta == 0, 0.0, beta * rest)
    return _labelled(labels, temperature**2 * loss)


def nkd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    labels: jax.Array,
    temperature: jax.Array | float,
    gamma: jax.Array | float = 1.5,
) -> jax.Array:
    """Normalised knowledge distillation (arXiv 2303.13005).

    `-t(label) log s(label)` at T = 1, and gamma T^2 times the cross-entropy of the distributions
    over the other classes alone at temperature T. The method adds `cross_entropy`.

    Args:
      student_logits, teacher_logits: [..., C].
      labels: [...] integers in 0..C-1, or negative.
      temperature: scalar T > 0 of the other classes.
      gamma: scalar >= 0.

    Returns:
      [...], in nats, those of the other classes times T^2.

    Raises:
      InputError: the shapes do not fit, the labels are not integers, or there are two classes, of
        which one is not the label, so that gamma changes nothing.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    labels = labels_of(labels, student_logits)
    _need_three(student_logits, "nkd", "gamma")
    is_label = _is_label(labels, student_logits)
    log_s = _of_label(jax.nn.log_softmax(student_logits), is_label)
    t = jnp.exp(_of_label(jax.nn.log_softmax(teacher_logits), is_label))
    target = -jnp.where(t == 0, 0.0, t * log_s)
    others_s = _without_label(student_logits / temperature, is_label)
    others_t = jnp.exp(_without_label(teacher_logits / temperature, is_label))
    rest = -jnp.sum(jnp.where(others_t == 0, 0.0, others_t * others_s), axis=-1)
    return _labelled(labels, target + jnp.where(gamma == 0, 0.0, gamma * temperature**2 * rest))


def _need_three(logits: jax.Array, name: str, number: str) -> None:
    classes = logits.shape[-1]
    if classes < 3:
        raise InputError(
            f"there are {classes} classes; {name} must have at least 3, for one class beside the "
            f"label has no distribution, and {number} would change nothing"
        )


def _is_label(labels: jax.Array, logits: jax.Array) -> jax.Array:
    """[..., C] truths, none of them where an example has no label."""
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)


def _of_label(log_p: jax.Array, is_label: jax.Array) -> jax.Array:
    """[...]: of the label; 0 where there is none."""
    return jnp.sum(jnp.where(is_label, log_p, 0.0), axis=-1)


def _without_label(logits: jax.Array, is_label: jax.Array) -> jax.Array:
    """[..., C] log-probabilities of the other classes alone, -inf of the label."""
    return jax.nn.log_softmax(jnp.where(is_label, -jnp.inf, logits))


def _labelled(labels: jax.Array, loss: jax.Array) -> jax.Array:
    return jnp.where(labels >= 0, loss, 0.0)
