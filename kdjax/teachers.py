"""Teachers: how several become one distribution, who teaches whom, and their logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kdjax.checks import InputError
from kdjax.spec import StageSpec, grid

if TYPE_CHECKING:
    from kdjax.stage import Stage

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


@dataclass(frozen=True)
class Teachers:
    """K nets from one or more finished stages; different stages may have different models."""

    stages: tuple[Stage, ...]

    @property
    def count(self) -> int:
        return sum(len(stage.members) for stage in self.stages)

    @property
    def variables(self) -> tuple:
        return tuple(stage.variables for stage in self.stages)

    def first(self, size: int) -> Teachers:
        """The first `size` of the K nets."""
        kept, left = [], size
        for stage in self.stages:
            if left > 0:
                kept.append(stage.part(range(min(left, len(stage.members)))))
            left -= len(stage.members)
        return Teachers(tuple(kept))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Raw logits [K, B, C] of raw inputs [B, ...] on the host."""
        return np.concatenate([stage.predict(inputs) for stage in self.stages])

    def teach(self, variables: tuple, inputs: jax.Array) -> jax.Array:
        """Raw logits [K, B, C] of preprocessed inputs [B, ...], inside a compiled chunk."""
        forwards = [stage.forward for stage in self.stages]
        return jnp.concatenate([f(v, inputs) for f, v in zip(forwards, variables, strict=True)])


def mixing_matrix(
    stage: StageSpec, count: int, validation_errors: Sequence[float], path: str
) -> np.ndarray:
    """Which teachers each member learns from: [M, K], rows with sum 1.

    Args:
      count: K.
      validation_errors: [K], by which "best" chooses.
      path: of the stage in the config, for messages.

    Raises:
      InputError: an ensemble larger than K; "one_to_one" without as many seeds as teachers.
    """
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
