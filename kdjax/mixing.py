"""How several teachers become one distribution, and which teachers each member learns from."""

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kdjax.rules import InputError

MEANS = ("arithmetic", "geometric")


def ensemble_logits(
    logits: jax.Array,
    temperature: jax.Array | float,
    mean: str = "arithmetic",
    weights: jax.Array | None = None,
) -> jax.Array:
    """Logits whose softmax at `temperature` is the ensemble's distribution at `temperature`.

    The mean is taken after the temperature: of the probabilities (arithmetic), or of the
    log-probabilities, renormalised (geometric); arXiv 1503.02531, section 2 and 5.4.

    Args:
      logits: [K, B, C] raw logits of K teachers.
      temperature: scalar T > 0.
      mean: "arithmetic" or "geometric".
      weights: [K], not negative, with sum 1; equal if None. Zero leaves a teacher out.

    Returns:
      [B, C], at least float32.

    Raises:
      ValueError: for another mean.
    """
    chex.assert_rank(logits, 3)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if weights is None:
        weights = jnp.full(len(logits), 1 / len(logits), logits.dtype)
    chex.assert_shape(weights, (len(logits),))
    if mean == "arithmetic":
        log_p = jax.nn.log_softmax(logits / temperature)
        return temperature * jax.nn.logsumexp(log_p, axis=0, b=weights[:, None, None])
    if mean == "geometric":
        heard = jnp.where(weights[:, None, None] > 0, logits, 0.0)  # not 0 times infinity
        return jnp.tensordot(weights, heard, axes=1)
    raise ValueError(f"mean is {mean!r}; it must be one of: {', '.join(MEANS)}")


def mixing_matrix(
    stage: Any, count: int, validation_errors: Sequence[float], path: str
) -> np.ndarray:
    """Which teachers each member learns from: [M, K], rows with sum 1.

    Args:
      count: K.
      validation_errors: [K], by which "best" chooses.
      path: of the stage in the config, for messages.

    Raises:
      InputError: an ensemble larger than K; "one_to_one" without as many seeds as teachers.
    """
    from kdjax.config.spec import grid

    members = grid(stage)
    rows = np.zeros((len(members), count), np.float32)
    seeds = dict(stage.members)["seed"]
    if stage.mixing == "one_to_one" and len(seeds) != count:
        raise InputError(
            f"{path}.mixing is 'one_to_one', but there are {len(seeds)} seeds and {count} "
            "teachers, those that diverged not counted; the numbers must be equal"
        )
    for row, member in zip(rows, members, strict=True):
        size = member["ensemble_size"] or count
        if size > count:
            raise InputError(
                f"{path}.ensemble_size is {size}; it must be at most the {count} teachers, those "
                "that diverged not counted"
            )
        if stage.mixing == "all":
            row[:size] = 1 / size
        elif stage.mixing == "one_to_one":
            row[seeds.index(member["seed"])] = 1
        else:
            row[int(np.argmin(validation_errors))] = 1
    return rows
