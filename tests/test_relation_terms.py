"""Losses of relations and the contrastive loss against float64 references, and what each is known
to trip on."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stages import refuses

from kdjax.losses import (
    TERMS,
    correlation_congruence,
    crd,
    pkt,
    rkd_angle,
    rkd_distance,
    similarity_preserving,
)
from kdjax.losses.contrastive import crd_log_normaliser, crd_negatives, crd_update_bank

B, F, G = 9, 4, 3  # B is more than one chunk of anchors, and not two
RANDOM = np.random.default_rng(0)


def array(*shape):
    """float64, but exact in float32."""
    return RANDOM.normal(size=shape).astype(np.float32).astype(np.float64)


def lengths_one(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def huber(x):
    return np.where(abs(x) < 1, x**2 / 2, abs(x) - 0.5)


def plain_similarity(f, g):
    f, g = (lengths_one(x @ x.T) for x in (f, g))
    return ((f - g) ** 2).sum() / B**2


def plain_correlation(f, g, gamma=0.4, order=2):
    def kernel(x):
        cosines = lengths_one(x) @ lengths_one(x).T
        each = [(2 * gamma) ** p / math.factorial(p) * cosines**p for p in range(order + 1)]
        return np.exp(-2 * gamma) * sum(each)

    return ((kernel(f) - kernel(g)) ** 2).mean()


def plain_distance(f, g):
    def distances(x):
        found = np.linalg.norm(x[:, None] - x[None], axis=2)
        return found / found[found > 0].mean()

    return huber(distances(f) - distances(g)).mean()


def plain_angle(f, g):
    def cosines(x):
        found = np.zeros((B, B, B))
        for i, j, k in itertools.product(range(B), repeat=3):
            a, b = x[i] - x[j], x[k] - x[j]
            if i != j != k:
                found[i, j, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        return found

    return huber(cosines(f) - cosines(g)).mean()


def plain_pkt(f, g):
    def chances(x):
        similarity = (lengths_one(x) @ lengths_one(x).T + 1) / 2
        return similarity / similarity.sum(axis=1, keepdims=True)

    q, p = chances(f), chances(g)
    return (p * np.log((p + 1e-7) / (q + 1e-7))).mean()


CASES = {
    "similarity_preserving": (similarity_preserving, plain_similarity),
    "correlation_congruence": (correlation_congruence, plain_correlation),
    "rkd_distance": (rkd_distance, plain_distance),
    "rkd_angle": (rkd_angle, plain_angle),
    "pkt": (pkt, plain_pkt),
}
STUDENT, TEACHER = array(B, F), array(B, G)
every_loss = pytest.mark.parametrize("name", CASES)


@functools.cache
def compiled(name):
    """(student, teacher) -> the loss and its gradients, on the host."""
    both = jax.jit(jax.value_and_grad(CASES[name][0], (0, 1)))
    return lambda f, g: jax.device_get(both(f, g))


@every_loss
def test_value_and_gradient_match_the_reference_and_none_reaches_the_teacher(name):
    plain = CASES[name][1]
    with jax.enable_x64(True):
        value, (to_student, to_teacher) = compiled(name)(STUDENT, TEACHER)
    assert value.dtype == np.float64 and value.shape == () and not np.any(to_teacher)
    np.testing.assert_allclose(value, plain(STUDENT, TEACHER), rtol=1e-6)
    for direction in (array(B, F), np.eye(B, F)):
        at = lambda by, d=direction: plain(STUDENT + by * d, TEACHER)
        expected = (at(1e-6) - at(-1e-6)) / 2e-6
        np.testing.assert_allclose((to_student * direction).sum(), expected, rtol=1e-5)


@every_loss
def test_half_precision_is_the_float32_loss_of_the_rounded_features(name):
    f, g = jnp.asarray(STUDENT, jnp.bfloat16), jnp.asarray(TEACHER, jnp.bfloat16)
    narrow = compiled(name)(f, g)
    wide = compiled(name)(f.astype(jnp.float32), g.astype(jnp.float32))
    assert narrow[0].dtype == jnp.float32 and narrow[1][0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow[0], wide[0])


@every_loss
def test_equal_dead_and_huge_examples_have_a_finite_loss_and_gradient(name):
    f, g = jnp.float32(STUDENT), jnp.float32(TEACHER)
    twice = f.at[1].set(f[0])  # two examples in one place
    for student in (twice, 0 * f, f.at[0].set(0.0), 1e4 * f, 0 * f + 1):
        for teacher in (g, 0 * g):
            found = compiled(name)(student, teacher)
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


@every_loss
def test_no_order_of_examples_and_no_rotation_changes_a_relation(name):
    """A product of neighbours in the batch, as RepDistiller's CC is, changes with the order."""
    order, (rotation, _) = RANDOM.permutation(B), np.linalg.qr(array(F, F))
    with jax.enable_x64(True):
        value = compiled(name)(STUDENT, TEACHER)[0]
        other = compiled(name)(STUDENT[order] @ rotation, TEACHER[order])[0]
    np.testing.assert_allclose(other, value, rtol=1e-8)


@every_loss
def test_a_student_that_is_the_teacher_costs_nothing(name):
    with jax.enable_x64(True):
        value, (gradient, _) = compiled(name)(TEACHER, TEACHER)
    assert abs(value) < 1e-12 and np.abs(gradient).max() < 1e-6


def test_the_series_of_the_kernel_tends_to_the_kernel():
    f, g = lengths_one(STUDENT), lengths_one(TEACHER)
    kernel = lambda x: np.exp(-0.7 * ((x[:, None] - x[None]) ** 2).sum(axis=2))
    with jax.enable_x64(True):
        value = jax.jit(lambda f, g: correlation_congruence(f, g, 0.7, order=20))(f, g)
    np.testing.assert_allclose(value, ((kernel(f) - kernel(g)) ** 2).mean(), rtol=1e-9)


def test_the_divergence_of_a_row_is_so_many_times_the_mean():
    """For which the weight of 30000 is."""
    with jax.enable_x64(True):
        value = compiled("pkt")(STUDENT, TEACHER)[0]
    q, p = ((lengths_one(x) @ lengths_one(x).T + 1) / 2 for x in (STUDENT, TEACHER))
    q, p = (x / x.sum(axis=1, keepdims=True) for x in (q, p))
    np.testing.assert_allclose(value * B, (p * np.log(p / q)).sum(axis=1).mean(), rtol=1e-4)


def test_angles_take_no_memory_of_all_triplets():
    size = 128
    f, g = (jax.ShapeDtypeStruct((size, n), np.float32) for n in (16, 8))
    program = jax.make_jaxpr(jax.grad(rkd_angle))(f, g)

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (math.prod(v.aval.shape) for v in equation.outvars)
            for value in jax.tree.leaves(list(equation.params.values())):
                inner = getattr(value, "jaxpr", value)
                yield from sizes(inner) if hasattr(inner, "eqns") else ()

    assert size**2 < max(sizes(program.jaxpr)) <= 8 * size**2


def test_relations_are_of_the_same_examples():
    with refuses("both must be [examples, ..., features] of the same examples"):
        rkd_distance(jnp.zeros((3, 2)), jnp.zeros((4, 2)))


# The contrastive loss.

N, D, COUNT, T = 7, 3, 5, 0.2
INDEX = np.array([2, 0, 6, 3], np.int32)
ANCHOR, BANK = lengths_one(array(4, D)), lengths_one(array(N, D))
NEGATIVES = np.array([RANDOM.choice([n for n in range(N) if n != i], COUNT) for i in INDEX])
COUNTS = np.stack([np.bincount(row, minlength=N) for row in NEGATIVES]).astype(float)
LOG_Z = 1.3


def plain_crd(anchor):
    """As the authors have it, without the 1e-7 that keeps their logarithms finite."""
    found = np.zeros(4)
    for b, (own, others) in enumerate(zip(INDEX, NEGATIVES, strict=True)):
        p = lambda n, b=b: np.exp(anchor[b] @ BANK[n] / T) / np.exp(LOG_Z)
        noise = COUNT / N
        found[b] = -np.log(p(own) / (p(own) + noise))
        found[b] -= sum(np.log(noise / (p(n) + noise)) for n in others)
    return found


def test_the_contrastive_loss_and_its_gradient_match_the_reference():
    loss = lambda anchor, bank, z: crd(anchor, bank, INDEX, COUNTS, z, T)
    with jax.enable_x64(True):
        both = jax.jit(lambda *x: (loss(*x), jax.grad(lambda *x: loss(*x).sum(), (0, 1, 2))(*x)))
        value, gradients = jax.device_get(both(jnp.asarray(ANCHOR), jnp.asarray(BANK), LOG_Z))
        z = crd_log_normaliser(
            jnp.asarray(ANCHOR), jnp.asarray(BANK), INDEX, jnp.asarray(COUNTS), T
        )
    np.testing.assert_allclose(value, plain_crd(ANCHOR), rtol=1e-9)
    direction = array(4, D)
    at = lambda by: plain_crd(ANCHOR + by * direction).sum()
    expected = (at(1e-6) - at(-1e-6)) / 2e-6
    np.testing.assert_allclose((gradients[0] * direction).sum(), expected, rtol=1e-6)
    assert not np.any(gradients[1]) and not np.any(gradients[2])
    rows = np.concatenate([INDEX[:, None], NEGATIVES], axis=1)
    scores = np.exp((ANCHOR[:, None] * BANK[rows]).sum(axis=2) / T)
    np.testing.assert_allclose(z, np.log(scores.mean(axis=1) * N), rtol=1e-9)


def test_a_cold_contrast_is_finite():
    value, gradient = jax.jit(
        jax.value_and_grad(lambda a: crd(a, BANK32, INDEX, COUNTS32, 0.0, 1e-3).sum())
    )(jnp.float32(ANCHOR))
    assert np.isfinite(value) and np.isfinite(gradient).all()


BANK32, COUNTS32 = BANK.astype(np.float32), COUNTS.astype(np.float32)


def test_negatives_are_others_alike_and_depend_on_the_example_alone():
    draw = jax.jit(lambda key, index: crd_negatives(key, index, N, 4000))
    key = jax.random.key(0)
    found = np.asarray(draw(key, INDEX))
    assert (found.sum(axis=1) == 4000).all()
    own = found[np.arange(4), INDEX]
    others = found[np.arange(N)[None] != INDEX[:, None]]
    assert not own.any() and np.abs(others - 4000 / 6).max() < 5 * math.sqrt(4000 / 6)
    np.testing.assert_array_equal(draw(key, INDEX[::-1]), found[::-1])
    assert (np.asarray(draw(jax.random.key(1), INDEX)) != found).any()


def test_a_bank_keeps_its_other_rows_and_the_last_of_an_example_that_is_twice_in_a_batch():
    """A batch may span two epochs."""
    index = np.array([2, 5, 2], np.int32)
    new = np.float32(lengths_one(array(3, D)))
    found = np.asarray(jax.jit(lambda bank: crd_update_bank(bank, index, new, 0.5))(BANK32))
    expected = BANK32.copy()
    for row, n in ((5, 1), (2, 2)):
        expected[row] = lengths_one((0.5 * BANK32[row] + 0.5 * new[n])[None])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_one_layer_of_each_net_is_contrasted():
    with refuses("student is ('a', 'b'); it must be the path of one layer"):
        TERMS["crd"](student=("a", "b"), teacher=("a", "b"))
    with refuses("negatives is 0; it must be a whole number from 1"):
        TERMS["crd"](student="a", teacher="b", negatives=0)
    with refuses("student has 2 layers and teacher 1; each layer of the student must have one"):
        TERMS["pkt"](student=("a", "b"), teacher="b")
    with refuses("teacher is ''; it must be the path of a layer, or a tuple of paths"):
        TERMS["pkt"](student="a")
