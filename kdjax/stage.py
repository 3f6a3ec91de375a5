"""A finished stage, opened without the config that made it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from kdjax import checkpoint, parallel
from kdjax.augment import preprocess
from kdjax.data import Preprocessing
from kdjax.member import predict
from kdjax.models import MODELS
from kdjax.population import choose_plan, over_members
from kdjax.spec import ModelSpec

BATCH = 1000  # examples of one prediction call


@dataclass(frozen=True)
class Stage:
    """A finished stage: M members of one model.

    Attributes:
      path: its directory.
      spec: the stage's fields, as its config gave them.
      members: the numbers of each member (seed, temperature, ...).
      metrics: split to metric name to [M] values, at the last step.
      meta: model, classes, input shape, preprocessing, data set, teacher, versions.
      variables: {"params", "model_state"}, each leaf [M, ...].
    """

    path: Path
    spec: dict[str, Any]
    members: list[dict[str, Any]]
    metrics: dict[str, dict[str, list[float | None]]]
    meta: dict[str, Any]
    variables: dict[str, Any]

    @property
    def model_spec(self) -> ModelSpec:
        model = self.meta["model"]
        frozen = ((k, tuple(v) if isinstance(v, list) else v) for k, v in model["arguments"])
        return ModelSpec(model["name"], tuple(frozen))

    @property
    def model(self) -> nn.Module:
        return build_model(self.model_spec, self.meta["classes"])

    @property
    def preprocessing(self) -> Preprocessing:
        numbers = self.meta["preprocessing"]
        return Preprocessing(tuple(numbers["mean"]), tuple(numbers["scale"]))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Logits [M, B, C] of raw inputs [B, ...], as the data set has them."""
        inputs = np.asarray(inputs)
        if inputs.shape[1:] != tuple(self.meta["input_shape"]):
            raise ValueError(
                f"inputs have the shape {inputs.shape}; it must be "
                f"[B, {', '.join(map(str, self.meta['input_shape']))}]"
            )
        layout = parallel.Layout(data_shards=jax.local_device_count())
        size = min(BATCH, len(inputs))
        size += -size % layout.data_shards
        program = parallel.pmap(
            lambda variables, x: self.forward()(variables, preprocess(x, self.preprocessing)),
            layout,
        )
        variables = parallel.replicate(self.variables, layout)
        logits = []
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            padded = np.concatenate([batch, np.repeat(batch[:1], size - len(batch), axis=0)])
            out = np.asarray(program(variables, parallel.split_batch(padded, layout, axis=0)))
            logits.append(np.concatenate(list(out), axis=1)[:, : len(batch)])
        return np.concatenate(logits, axis=1)

    def forward(self) -> Callable[[Any, jax.Array], jax.Array]:
        """(variables [M, ...], preprocessed inputs [B, ...]) -> logits [M, B, C], traceable."""
        kind = MODELS[self.meta["model"]["name"]].kind
        large = 2**62  # a forward pass alone is fastest member by member
        how = choose_plan("auto", jax.default_backend(), kind, large).members
        model = self.model
        return over_members(lambda v, x: predict(model, v, x), how, (0, None))


def build_model(spec: ModelSpec, classes: int) -> nn.Module:
    """The Linen module of a spec."""
    return MODELS[spec.name].module(classes=classes, **dict(spec.arguments))


def open_stage(path: str | Path) -> Stage:
    """Opens a finished stage's directory.

    Raises:
      InputError: there is no such directory, it is no stage, is not finished, or is damaged.
    """
    path = Path(path)
    variables, _, meta = checkpoint.open_variables(path)
    results = checkpoint.results(path)
    return Stage(path, meta["stage"], meta["members"], results["metrics"], meta, variables)
