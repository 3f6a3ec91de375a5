"""Losses of a teacher's logits.

Axes: C classes, after any others. Every loss is per example, in at least float32 and in log space,
and lets no gradient into the teacher. A class whose logit is -inf in both nets costs nothing; one
that the student alone lacks costs infinity, unless its soft target underflows to 0. `T` is the
temperature; the factor T^2 that keeps soft gradients comparable across temperatures (arXiv
1503.02531, section 2) is applied here and nowhere else.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.arrays import relative_entropy, student_and_teacher, weighted
from kdjax.losses.labels import cross_entropy


def soft_cross_entropy(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """T^2 times the cross-entropy with the teacher's soft targets (arXiv 1503.02531, section 2).

    Its gradient is that of `kl_divergence`; its floor is T^2 times the entropy of the targets.

    Args:
      student_logits, teacher_logits: [..., C].
      temperature: scalar T > 0, used for both.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the shapes differ.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    log_q = jax.nn.log_softmax(student_logits / temperature)
    p = jax.nn.softmax(teacher_logits / temperature)
    return temperature**2 * -jnp.sum(jnp.where(p == 0, 0.0, p * log_q), axis=-1)


def kl_divergence(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """T^2 KL(teacher || student) at temperature T (arXiv 1503.02531, section 2).

    Never negative, and zero where student equals teacher. The gradient in the student's logits
    is `T (q - p)`.

    Args:
      student_logits, teacher_logits: [..., C].
      temperature: scalar T > 0, used for both.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the shapes differ.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    log_q = jax.nn.log_softmax(student_logits / temperature)
    log_p = jax.nn.log_softmax(teacher_logits / temperature)
    return temperature**2 * relative_entropy(log_p, log_q)


def logit_matching(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """Half the squared difference of the centred logits, summed over classes.

    Centring ignores the shift that a softmax ignores. `kl_divergence` tends to this divided by C
    as T grows (arXiv 1503.02531, section 2.1). Means and sums are over the classes that are not
    masked; a class that is masked in one net alone costs infinity.

    Args:
      student_logits, teacher_logits: [..., C].

    Returns:
      [...].

    Raises:
      InputError: the shapes differ.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    in_student, in_teacher = student_logits == -jnp.inf, teacher_logits == -jnp.inf
    masked = in_student | in_teacher
    difference = jnp.where(masked, 0.0, student_logits - teacher_logits)
    share = difference.shape[-1] / (~masked).sum(axis=-1, keepdims=True)  # 1 where none is masked
    mean = difference.mean(axis=-1, keepdims=True) * share
    centred = jnp.where(masked, 0.0, difference - mean)
    loss = 0.5 * jnp.sum(centred**2, axis=-1)
    return jnp.where((in_student != in_teacher).any(axis=-1), jnp.inf, loss)


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
    which a tenth is labelled, it weighs a tenth of `hard_weight`. A weight of 0 leaves its term
    out, also where that is infinite.

    Args:
      student_logits, teacher_logits: [..., C].
      labels: [...]; negative where an example has none.
      temperature: scalar T > 0 of the soft term.
      soft_weight, hard_weight: scalars >= 0.

    Returns:
      [...].

    Raises:
      InputError: labels that are not integers, or shapes that do not fit.
    """
    soft = kl_divergence(student_logits, teacher_logits, temperature)
    hard = cross_entropy(student_logits, labels)
    return weighted(soft_weight, soft) + weighted(hard_weight, hard)
