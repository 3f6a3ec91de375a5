"""Losses of features against float64 references, pooling, and what each is known to trip on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stages import refuses

from kdjax.losses import (
    TERMS,
    attention_transfer,
    fitnet,
    hierarchical_context,
    ickd,
    nst,
    vid,
)
from kdjax.losses.layers import averaged, pooled, unit
from kdjax.losses.review import review_maps, review_parameters

B, F, G = 3, 5, 6
RANDOM = np.random.default_rng(0)


def array(*shape):
    """float64, but exact in float32."""
    return RANDOM.normal(size=shape).astype(np.float32).astype(np.float64)


def plain_pool(x, sizes):
    """[B, H, W, F] -> [B, h, w, F], bin by bin."""
    height, width = x.shape[1:3]
    found = np.zeros((len(x), *sizes, x.shape[3]))
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            rows = slice(i * height // sizes[0], int(np.ceil((i + 1) * height / sizes[0])))
            columns = slice(j * width // sizes[1], int(np.ceil((j + 1) * width / sizes[1])))
            found[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    return found


def plain_both(f, g):
    if f.ndim == 2:
        return f, g
    sizes = tuple(map(min, f.shape[1:3], g.shape[1:3]))
    return plain_pool(f, sizes), plain_pool(g, sizes)


def lengths_one(x, axis):
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def plain_fitnet(f, g, w):
    f, g = plain_both(f, g)
    return ((f @ w - g) ** 2).reshape(B, -1).mean(axis=1)


def plain_attention(f, g):
    f, g = plain_both(f, g)
    f, g = (lengths_one((x**2).mean(axis=3).reshape(B, -1), 1) for x in (f, g))
    return ((f - g) ** 2).mean(axis=1)


def plain_nst(f, g):
    f, g = plain_both(f, g)
    f, g = (lengths_one(x.reshape(B, -1, x.shape[3]), 1) for x in (f, g))
    kernel = lambda x, y: (np.einsum("bpi,bpj->bij", x, y) ** 2).mean(axis=(1, 2))
    return kernel(g, g) + kernel(f, f) - 2 * kernel(f, g)


def plain_vid(f, g, p):
    f, g = plain_both(f, g)
    relu = lambda x: np.maximum(x, 0)
    mean = relu(relu(f @ p["first"]) @ p["second"]) @ p["third"]
    variance = np.log(1 + np.exp(p["scale"])) + 1e-5
    return (0.5 * ((mean - g) ** 2 / variance + np.log(variance))).reshape(B, -1).mean(axis=1)


def plain_ickd(f, g, w):
    f, g = plain_both(f, g)
    f, g = (x.reshape(B, -1, x.shape[3]) for x in (f @ w, g))
    f, g = (lengths_one(np.einsum("bpi,bpj->bij", x, x), 2) for x in (f, g))
    return ((f - g) ** 2).sum(axis=(1, 2)) / G


def plain_context(f, g):
    total, weights, weight = 0.0, 0.0, 1.0
    for level in (f.shape[1], 4, 2, 1):
        if weights and level >= f.shape[1]:
            continue
        difference = plain_pool(f, (level, level)) - plain_pool(g, (level, level))
        total = total + weight * (difference**2).mean(axis=(1, 2, 3))
        weights, weight = weights + weight, weight / 2
    return total / weights


W = array(F, G)
V = {"first": W, "second": array(G, G), "third": array(G, G), "scale": array(G)}
MAPS = array(B, 4, 4, F), array(B, 7, 5, G)
CASES = {
    "fitnet": (fitnet, plain_fitnet, MAPS, (W,)),
    "fitnet of vectors": (fitnet, plain_fitnet, (array(B, F), array(B, G)), (W,)),
    "attention_transfer": (attention_transfer, plain_attention, MAPS, ()),
    "nst of more pixels": (nst, plain_nst, MAPS, ()),
    "nst of more channels": (nst, plain_nst, (array(B, 2, 3, 8), array(B, 2, 2, 4)), ()),
    "vid": (vid, plain_vid, MAPS, (V,)),
    "vid of vectors": (vid, plain_vid, (array(B, F), array(B, G)), (V,)),
    "ickd": (ickd, plain_ickd, MAPS, (W,)),
    "hierarchical_context": (
        hierarchical_context,
        plain_context,
        (array(B, 6, 6, 2), array(B, 6, 6, 2)),
        (),
    ),
}
every_loss = pytest.mark.parametrize("name", CASES)


@functools.cache
def compiled(name):
    """(student, teacher, parameters) -> the losses and the gradients of their sum."""
    loss = CASES[name][0]

    def both(f, g, parameters):
        value, backward = jax.vjp(lambda f, g, p: loss(f, g, *p), f, g, parameters)
        return value, backward(jnp.ones_like(value))

    return jax.jit(both)


@every_loss
def test_value_and_gradient_match_the_reference_and_none_reaches_the_teacher(name):
    _, plain, (f, g), parameters = CASES[name]
    with jax.enable_x64(True):
        value, (to_student, to_teacher, to_parameters) = compiled(name)(f, g, parameters)
    assert value.dtype == np.float64 and value.shape == (B,)
    np.testing.assert_allclose(value, plain(f, g, *parameters), rtol=1e-9, atol=1e-14)
    assert not np.any(to_teacher)
    direction, step = jax.tree.map(lambda x: array(*np.shape(x)), (f, parameters)), 1e-6
    moved = lambda by: jax.tree.map(lambda x, d: x + by * d, (f, parameters), direction)
    at = lambda by: plain(moved(by)[0], g, *moved(by)[1]).sum()
    expected = (at(step) - at(-step)) / (2 * step)
    along = jax.tree.map(
        lambda x, d: (np.asarray(x) * d).sum(), (to_student, to_parameters), direction
    )
    np.testing.assert_allclose(sum(jax.tree.leaves(along)), expected, rtol=1e-6)


@every_loss
def test_half_precision_is_the_float32_loss_of_the_rounded_features(name):
    _, _, (f, g), parameters = CASES[name]
    f, g = jnp.asarray(f, jnp.bfloat16), jnp.asarray(g, jnp.bfloat16)
    parameters = jax.tree.map(jnp.float32, parameters)
    wide = compiled(name)(f.astype(jnp.float32), g.astype(jnp.float32), parameters)
    narrow = compiled(name)(f, g, parameters)
    assert narrow[0].dtype == jnp.float32 and narrow[1][0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow[0], wide[0])


@every_loss
def test_dead_huge_and_tiny_features_have_a_finite_loss_and_gradient(name):
    _, _, (f, g), parameters = CASES[name]
    f, g, parameters = jax.tree.map(jnp.float32, (f, g, parameters))
    for student in (0 * f, 1e4 * f, 1e-12 * f, f.at[0].set(0.0)):
        for teacher in (0 * g, g):
            found = compiled(name)(student, teacher, parameters)
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


@every_loss
def test_examples_do_not_mix(name):
    _, _, (f, g), parameters = CASES[name]
    with jax.enable_x64(True):
        value, (gradient, *_) = compiled(name)(f, g, parameters)
        other, (changed, *_) = compiled(name)(np.concatenate([f[:1], f[:0:-1]]), g, parameters)
    np.testing.assert_allclose(other[0], value[0], rtol=1e-12)
    np.testing.assert_allclose(changed[0], gradient[0], rtol=1e-9)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 2), (5, 5), (7, 4)])
def test_pooling_is_the_mean_of_the_bins_of_pytorch(sizes):
    x = array(2, 7, 5, 3)
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            averaged(jnp.asarray(x), sizes), plain_pool(x, sizes), atol=1e-14
        )


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((2, 4, 6, 3), (2, 6, 4, 3)), ((2, 4, 4, 3), (2, 3)), ((2, 3), (2, 4, 3))],
)
def test_shapes_that_cannot_be_pooled_are_refused(student, teacher):
    with refuses("cannot be pooled to one size; one of the two must be the smaller on every axis"):
        pooled(jnp.zeros(student), jnp.zeros(teacher))


def test_a_vector_has_no_attention():
    with refuses("attention needs maps of both, [examples, ..., channels]"):
        attention_transfer(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    with refuses("both must be [examples, ..., features] of the same examples"):
        fitnet(jnp.zeros((2, 3)), jnp.zeros((4, 3)), jnp.zeros((3, 3)))


def test_a_unit_vector_has_length_one_whatever_its_size():
    x = jnp.float32(array(4, 9)) * jnp.float32([[1e-30], [1.0], [1e30], [0.0]])
    np.testing.assert_allclose(jnp.linalg.norm(unit(x), axis=1), [1, 1, 1, 0], rtol=1e-6)
    length = jax.grad(lambda x: (unit(x)[:, 0] ** 2).sum())(x)
    assert np.isfinite(length).all() and not length[3].any()


def test_the_variance_of_vid_starts_at_five_and_never_is_zero():
    aux = TERMS["vid"](student="a", teacher="b").aux
    layers = {"a": jnp.zeros((1, F))}, {"b": jnp.zeros((2, 1, G))}
    student, teacher = (type("", (), {"features": x})() for x in layers)
    (scale,) = (p["scale"] for p in aux(jax.random.key(0), student, teacher))
    assert scale.shape == (2, G)
    np.testing.assert_allclose(jax.nn.softplus(scale), 5.0, rtol=1e-6)
    sure = jax.tree.map(jnp.float32, V) | {"scale": jnp.full(G, -1e4)}
    f = jnp.zeros((B, F), jnp.float32)
    value, gradients = compiled("vid of vectors")(f, jnp.zeros((B, G), jnp.float32), (sure,))
    np.testing.assert_allclose(value, 0.5 * np.log(1e-5), rtol=1e-5)  # and below 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_the_scale_of_either_net_does_not_change_the_correlation_of_channels():
    f, g = MAPS
    with jax.enable_x64(True):
        value = compiled("ickd")(f, g, (W,))[0]
        np.testing.assert_allclose(compiled("ickd")(100 * f, 0.01 * g, (W,))[0], value, rtol=1e-9)


def plain_fused(maps, sizes, parameters):
    """By loops over pixels, from the deepest on."""

    def norm(x, p):
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        return x * p["scale"] + p["bias"]

    def nearest(x, size):
        places = [np.arange(new) * old // new for new, old in zip(size, x.shape[1:3], strict=True)]
        return x[:, places[0]][:, :, places[1]]

    found, deeper = [], None
    for x, size, p in list(zip(maps, sizes, parameters, strict=True))[::-1]:
        x = norm(x @ p["within"]["kernel"], p["within"])
        if deeper is not None:
            y = nearest(deeper, x.shape[1:3])
            gates = np.concatenate([x, y], axis=3) @ p["gates"]["kernel"] + p["gates"]["bias"]
            gates = 1 / (1 + np.exp(-gates))
            x = x * gates[..., :1] + y * gates[..., 1:]
        deeper = nearest(x, size)
        padded = np.pad(deeper, ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width = size
        out = sum(
            padded[:, i : i + height, j : j + width] @ p["out"]["kernel"][i, j]
            for i in range(3)
            for j in range(3)
        )
        found.insert(0, norm(out, p["out"]))
    return found


def test_the_fusion_of_knowledge_review_is_that_of_the_reference():
    maps = [array(B, 6, 6, 3), array(B, 3, 3, 4), array(B, 1, 1, 5)]
    sizes, channels = [(4, 4), (3, 3), (1, 1)], [(3, 2), (4, 6), (5, 7)]
    with jax.enable_x64(True):
        parameters = jax.tree.map(lambda x: x + 0.1, review_parameters(jax.random.key(0), channels))
        actual = jax.jit(lambda maps, p: review_maps(maps, sizes, p))(maps, parameters)
    expected = plain_fused(maps, sizes, jax.tree.map(np.asarray, parameters))
    for x, y in zip(actual, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert "gates" not in parameters[-1]  # nothing is deeper
