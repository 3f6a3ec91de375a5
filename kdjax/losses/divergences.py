"""Divergences of the student's distribution from the teacher's, other than KL(teacher || student).

Axes: C classes, after any others. Every loss is per example, in at least float32 and in log space,
and lets no gradient into the teacher. A class whose logit is -inf in both nets costs nothing. The
factor T^2 keeps the gradients comparable across temperatures, and with those of `kl_divergence`;
the sources are at T = 1 and have none.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.arrays import log_total, relative_entropy, student_and_teacher
from kdjax.losses.logits import kl_divergence
from kdjax.rules import check, whole

EPSILON = 1e-12  # inside of a square root, whose gradient at 0 is infinite


def reverse_kl(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """T^2 KL(student || teacher) at temperature T (MiniLLM, arXiv 2306.08543).

    It seeks the teacher's largest mode, where `kl_divergence` covers all of them. A class that the
    teacher alone lacks costs infinity, unless the student's probability underflows to 0.

    Args:
      student_logits, teacher_logits: [..., C].
      temperature: scalar T > 0, used for both.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the shapes differ.
    """
    log_s, log_t = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * relative_entropy(log_s, log_t)


def jensen_shannon(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    temperature: jax.Array | float,
    beta: jax.Array | float = 0.5,
) -> jax.Array:
    """T^2 times the generalised Jensen-Shannon divergence (GKD, arXiv 2306.13649, equation 1).

    `beta KL(t || m) + (1 - beta) KL(s || m)` with the mixture `m = beta t + (1 - beta) s` of
    teacher t and student s. It vanishes as beta nears 0 or 1, where it is, by the convention of
    GKD's code in TRL, KL(t || s) = `kl_divergence` at beta 0 and KL(s || t) = `reverse_kl` at
    beta 1.

    Args:
      student_logits, teacher_logits: [..., C].
      temperature: scalar T > 0, used for both.
      beta: scalar from 0 to 1, the share of the teacher in the mixture.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the shapes differ.
    """
    log_s, log_t = _log_probabilities(student_logits, teacher_logits, temperature)
    between = (beta > 0) & (beta < 1)
    share = jnp.where(between, beta, 0.5)
    log_m = _log_mixture(share, log_t, log_s)
    mixed = share * relative_entropy(log_t, log_m) + (1 - share) * relative_entropy(log_s, log_m)
    end = jnp.where(beta == 0, relative_entropy(log_t, log_s), relative_entropy(log_s, log_t))
    return temperature**2 * jnp.where(between, mixed, end)


def skew_kl(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    temperature: jax.Array | float,
    skew: jax.Array | float = 0.1,
) -> jax.Array:
    """T^2 KL(t || a t + (1 - a) s) of teacher t and student s (DistiLLM, arXiv 2402.03898).

    With the skew a above 0 it is at most -T^2 log(a), also where the student lacks a class. Its
    gradient falls with 1 - a, so that the weight must be tuned anew. Without skew it is
    `kl_divergence`.

    Args:
      student_logits, teacher_logits: [..., C].
      temperature: scalar T > 0, used for both.
      skew: scalar a from 0 to below 1.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the shapes differ.
    """
    log_s, log_t = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * relative_entropy(log_t, _log_mixture(skew, log_t, log_s))


def log_softmax_l2(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """The Euclidean distance of the log-probabilities at T = 1, as in big_vision's distillation.

    It is the root of the sum of squares and of 1e-12, so that the gradient is 0 where student
    equals teacher. A class that one net alone lacks costs infinity.

    Args:
      student_logits, teacher_logits: [..., C].

    Returns:
      [...], in nats.

    Raises:
      InputError: the shapes differ.
    """
    log_s, log_t = _log_probabilities(student_logits, teacher_logits, 1.0)
    in_student, in_teacher = log_s == -jnp.inf, log_t == -jnp.inf
    difference = jnp.where(in_student | in_teacher, 0.0, log_s - log_t)
    distance = jnp.sqrt(jnp.sum(difference**2, axis=-1) + EPSILON)
    return jnp.where((in_student != in_teacher).any(axis=-1), jnp.inf, distance)


def top_k_kl(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    temperature: jax.Array | float,
    k: int,
) -> jax.Array:
    """T^2 KL(teacher || student) of the teacher's k most probable classes and of all others as one.

    The bucket of the others keeps the student from putting its mass where the teacher has little,
    which costs nothing where the k are renormalised instead (both are in MaxText). With k of C - 1
    or more it is `kl_divergence`. Of classes with the same logit the first count as the larger.

    Args:
      student_logits, teacher_logits: [..., C].
      temperature: scalar T > 0, used for both.
      k: how many classes, a Python integer from 1.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the shapes differ, or k is no such number.
    """
    check(whole(1), "k", k)
    classes = jnp.shape(student_logits)[-1:]
    if classes and k >= classes[0] - 1:
        return kl_divergence(student_logits, teacher_logits, temperature)
    log_s, log_t = _log_probabilities(student_logits, teacher_logits, temperature)
    _, largest = jax.lax.top_k(log_t, k)
    chosen = jax.nn.one_hot(largest, log_t.shape[-1], dtype=bool).any(axis=-2)

    def buckets(log_p: jax.Array) -> jax.Array:
        others = log_total(log_p, ~chosen)[..., None]
        return jnp.concatenate([jnp.where(chosen, log_p, -jnp.inf), others], axis=-1)

    return temperature**2 * relative_entropy(buckets(log_t), buckets(log_s))


def multi_temperature(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0),
) -> jax.Array:
    """The mean of `kl_divergence` over several temperatures.

    Multi-Level Logit Distillation (Jin, Wang and Lin, CVPR 2023) takes the sum at these five.

    Args:
      student_logits, teacher_logits: [..., C].
      temperatures: each above 0.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the shapes differ.
    """
    losses = [kl_divergence(student_logits, teacher_logits, t) for t in temperatures]
    return jnp.stack(losses).mean(axis=0)


def _log_probabilities(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    log_s = jax.nn.log_softmax(student_logits / temperature)
    return log_s, jax.nn.log_softmax(teacher_logits / temperature)


def _log_mixture(share: jax.Array | float, log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """log(share p + (1 - share) q), with a gradient of 0 for a class that both lack."""
    log_p, log_q = jnp.log(share) + log_p, jnp.log1p(-share) + log_q
    absent = (log_p == -jnp.inf) & (log_q == -jnp.inf)
    mixture = jnp.logaddexp(jnp.where(absent, 0.0, log_p), jnp.where(absent, 0.0, log_q))
    return jnp.where(absent, -jnp.inf, mixture)
