"""Layers in training and in evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.models import Dropout

PLACES = jnp.arange(500)


def drop(rate, x, key=0):
    return np.asarray(
        Dropout(rate).apply({}, x, PLACES[: len(x)], rngs={"dropout": jax.random.key(key)})
    )


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_dropout_drops_units_at_its_rate_and_keeps_the_mean(rate):
    x = drop(rate, jnp.ones((500, 3, 5, 7)))
    units = 3 * 5 * 7
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs((x == 0).mean() - rate) < 5 * deviation
    each = (x == 0).reshape(500, units)
    assert (abs(each.mean(axis=0) - rate) < 6 * np.sqrt(rate * (1 - rate) / 500)).all()
    correlation = np.corrcoef(each.T) - np.eye(units)
    assert abs(correlation).max() < 6 / np.sqrt(500)
    np.testing.assert_allclose(x[x != 0], 1 / (1 - rate), rtol=1e-4)


def test_dropout_differs_between_places_and_keys_and_rests_in_evaluation():
    x = jnp.ones((2, 64))
    first, second = drop(0.5, x)
    assert (first != second).any() and (drop(0.5, x, key=1)[0] != first).any()
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, None), x)
