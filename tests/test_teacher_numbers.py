"""Teachers whose logits are no numbers are said to be so, before anything is trained."""

import jax.numpy as jnp
import numpy as np
import pytest
from digits import arrays
from stages import refuses

import kdjax

pytestmark = pytest.mark.usefixtures("undrawn")
IMAGES, LABELS = arrays()
X = IMAGES.reshape(len(IMAGES), -1).astype(np.float32) / 16
HELD = dict(test=(X[160:], LABELS[160:]), validation=(X[120:160], LABELS[120:160]))
DATA = kdjax.arrays(train=(X[:120], LABELS[:120]), **HELD)
NET = kdjax.function(lambda w, x: x @ w, np.zeros((64, 10), np.float32), "net")
HOW = dict(steps=2, batch=10, quiet=True, learning_rate=0.01)


def teacher(wrong, where=lambda x: x[:, 20:21] > 0.5):
    """A linear teacher with a number of its own in class 0 of some examples."""
    one = jnp.arange(10).reshape(1, -1) == 0
    call = lambda w, x: jnp.where(where(x) & one, wrong, x @ w)
    return kdjax.function(call, np.ones((64, 10), np.float32), "rough")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("how", ["live", "cached"])
def test_a_teacher_with_logits_that_are_nan_is_named(wrong, how):
    bad = np.flatnonzero(X[120:160, 20] > 0.5)
    says = f"{len(bad)} of 40 examples of the validation split, such as {bad[0]};"
    with refuses("the teacher 'rough' gives logits that are NaN or infinite", says):
        kdjax.distill(NET, teacher(wrong), DATA, teacher_logits=how, **HOW)


def test_cached_logits_of_the_training_examples_are_looked_at_too():
    places = jnp.asarray(X[:120])
    same = lambda x: (abs(x[:, None] - places[None]).max(-1) < 1e-3).any(1, keepdims=True)
    data = kdjax.arrays(train=(X[:120], LABELS[:120]), **HELD)
    with refuses("'rough'", "for 120 of 120 examples of the train split"):
        kdjax.distill(NET, teacher(np.nan, same), data, teacher_logits="cached", **HOW)


def test_a_masked_class_is_no_mistake():
    masked = kdjax.distill(NET, teacher(-np.inf), DATA, **HOW)
    assert masked.diverged == [False]


def test_teachers_in_bfloat16_are_compared_in_float32():
    call = lambda w, x: (x @ w).astype(jnp.bfloat16)
    half = kdjax.function(call, np.ones((64, 10), np.float32), "half")
    trained = kdjax.distill(NET, half, DATA, **HOW)
    assert np.isfinite(trained.metrics["test"]["teacher_kl"]).all()
