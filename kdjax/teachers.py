"""Teachers: the nets of finished stages, and their logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.stage import Stage, open_stage


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

    def first(self, size: int) -> "Teachers":
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


def open_teachers(paths: Sequence[Path]) -> Teachers:
    """The members that did not diverge of all these finished stages."""
    return Teachers(tuple(open_stage(path).healthy() for path in paths))
