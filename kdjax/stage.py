"""A finished stage, opened without the config that made it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from kdjax import parallel
from kdjax.config.spec import ModelSpec
from kdjax.data.dataset import DIGITS, Preprocessing
from kdjax.data.in_memory import shaped
from kdjax.data.sources import numbered, one_line
from kdjax.host import checkpoint, files
from kdjax.member import predict
from kdjax.nets import cost
from kdjax.nets.modules import MODELS
from kdjax.population import choose_plan, over_members
from kdjax.rules import InputError, check, choose, number, one_of, text, tuple_of, whole
from kdjax.views import preprocess

BATCH = 1000  # examples of one prediction call


@dataclass(frozen=True, eq=False, repr=False)
class Stage:
    """A finished stage: M members of one model.

    Attributes:
      path: its directory.
      spec: the stage's fields, as its config gave them.
      members: the numbers of each member (seed, temperature, ...).
      metrics: split to metric name to [M] values, at the last step.
      diverged: [M] whether a member did; its predictions mean nothing.
      meta: model, classes, inputs, preprocessing, data set, teachers, versions.
      variables: {"params", "model_state"}, each leaf [M, ...].
    """

    path: Path
    spec: dict[str, Any]
    members: list[dict[str, Any]]
    metrics: dict[str, dict[str, list[float | None]]]
    diverged: list[bool]
    meta: dict[str, Any]
    variables: dict[str, Any]

    def __repr__(self) -> str:
        axes = " x ".join(f"{len(values)} of {name}" for name, values in self.spec["members"])
        members = f"{len(self.members)} x {self.meta['model']['name']} ({axes})"
        parameters = cost.parameters(self.variables["params"]) // len(self.members)
        data = self.meta["dataset"]["name"]
        return (
            f"<{self.spec['name']}: {members}, {parameters:,} parameters each, trained on {data}>"
        )

    @property
    def model_spec(self) -> ModelSpec:
        model = self.meta["model"]
        frozen = ((k, tuple(v) if isinstance(v, list) else v) for k, v in model["arguments"])
        return ModelSpec(model["name"], tuple(frozen))

    @property
    def model(self) -> nn.Module:
        return build_model(self.model_spec, self.meta["classes"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """[C], in the order of the logits; numbers where the data set has no names."""
        return tuple(self.meta.get("class_names") or numbered(self.meta["classes"]))

    @property
    def preprocessing(self) -> Preprocessing:
        numbers = self.meta["preprocessing"]
        return Preprocessing(tuple(numbers["mean"]), tuple(numbers["scale"]))

    @property
    def forward(self) -> Callable[[Any, jax.Array], jax.Array]:
        """(variables [M, ...], preprocessed inputs [B, ...]) -> logits [M, B, C], traceable."""
        return _forward(self.model_spec, self.meta["classes"])

    def healthy(self) -> "Stage":
        """The stage less the members that diverged.

        Raises:
          InputError: all did.
        """
        kept = np.flatnonzero(~np.array(self.diverged))
        if not len(kept):
            raise InputError(f"{self.path} has no member that did not diverge; train it again")
        return self.part(kept)

    def part(self, members: Sequence[int]) -> "Stage":
        """The stage with these of its members alone."""
        pick = lambda values: [values[m] for m in members]
        return dataclasses.replace(
            self,
            members=pick(self.members),
            diverged=pick(self.diverged),
            metrics={s: {k: pick(v) for k, v in m.items()} for s, m in self.metrics.items()},
            variables=jax.tree.map(lambda x: x[np.array(members)], self.variables),
        )

    def best(self) -> "Stage":
        """The one member, of all cells, with the fewest validation errors. Partly by chance: on the
        test set it may do no better than the others.

        Raises:
          InputError: all diverged.
        """
        healthy = self.healthy()
        return healthy.part([int(np.argmin(healthy.metrics["validation"]["errors"]))])

    def read_images(self, paths: str | Path | Iterable[str | Path]) -> np.ndarray:
        """Image files as `predict` takes them, [B, H, W, C] uint8: read as those of a folder are,
        cropped to the shape of the net's inputs and scaled to it.

        Raises:
          InputError: the net was not trained on images of 8 bits, or a file is none.
        """
        from kdjax.data.folder import read_images  # here, for only folders need Pillow

        shape, dtype = self.meta["input_shape"], self.meta.get("input_dtype", "unknown")
        digits = self.meta["dataset"].get("version") == DIGITS
        if len(shape) != 3 or shape[2] not in (1, 3) or dtype != "uint8" or digits:
            raise InputError(
                f"{self.path} was trained on inputs of the shape {shape}, dtype {dtype}"
                f"{', from 0 to 16' * digits}; image files can be read for nets that were trained "
                "on images [H, W, 1 or 3] of 8 bits, from 0 to 255"
            )
        return read_images(paths, shape)

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Logits [M, B, C] of raw inputs [B, ...], as the data set has them; images of one channel
        may be [B, H, W].

        Raises:
          InputError: inputs have another shape or range than the data set's, are floats where
            those are integers, or are no finite numbers.
        """
        inputs = shaped(np.asarray(inputs), self.meta["input_shape"])
        if inputs.ndim == 0 or inputs.shape[1:] != tuple(self.meta["input_shape"]):
            raise InputError(
                f"inputs have the shape {inputs.shape}; it must be "
                f"[B, {', '.join(map(str, self.meta['input_shape']))}]"
            )
        if inputs.dtype.kind not in "biuf":
            raise InputError(f"inputs are {inputs.dtype}; they must be numbers")
        if inputs.dtype.kind == "f":
            with np.errstate(over="ignore"):
                inputs = inputs.astype(np.float32, copy=False)
        wrong = inputs.size - np.count_nonzero(np.isfinite(inputs))
        if wrong:
            raise InputError(
                f"inputs have {wrong} values NaN or infinite; they must be finite in float32"
            )
        if inputs.dtype.kind == "f" and self.meta.get("input_dtype", "float32") != "float32":
            raise InputError("inputs are floats; they must be integers, as the data set has them")
        if inputs.size and self.meta.get("input_dtype") in ("uint8", "uint16"):
            low, high = int(inputs.min()), int(inputs.max())
            most = np.iinfo(self.meta["input_dtype"]).max
            if low < 0 or high > most:
                raise InputError(
                    f"inputs have values from {low} to {high}; they must be from 0 to {most}"
                )
        if not len(inputs):
            return np.zeros((len(self.members), 0, self.meta["classes"]), np.float32)
        layout = parallel.Layout(data_shards=jax.local_device_count())
        program = _program(self.model_spec, self.meta["classes"], self.preprocessing, layout)
        variables = parallel.replicate(self.variables, layout)
        size = BATCH + -BATCH % layout.data_shards  # one for all calls, to compile once
        logits = []
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            padded = np.resize(batch, (size, *batch.shape[1:]))
            out = np.asarray(program(variables, parallel.split_batch(padded, layout, axis=0)))
            logits.append(np.concatenate(list(out), axis=1)[:, : len(batch)])
        return np.concatenate(logits, axis=1)


def _forward(spec: ModelSpec, classes: int) -> Callable[[Any, jax.Array], jax.Array]:
    large = 2**62  # a forward pass alone is fastest member by member
    plan = choose_plan("auto", jax.default_backend(), MODELS[spec.name].kind, large)
    model = build_model(spec, classes)
    return over_members(lambda v, x: predict(model, v, x), plan.members, (0, None))


@functools.cache
def _program(
    spec: ModelSpec, classes: int, preprocessing: Preprocessing, layout: parallel.Layout
) -> Callable:
    logits = _forward(spec, classes)
    return parallel.pmap(lambda v, x: logits(v, preprocess(x, preprocessing)), layout)


def build_model(spec: ModelSpec, classes: int) -> nn.Module:
    """The Linen module of a spec."""
    return MODELS[spec.name].module(classes=classes, **dict(spec.arguments))


def open_stage(path: str | Path) -> Stage:
    """Opens a finished stage's directory.

    Raises:
      InputError: there is no such directory, it is no stage, is not finished, or is damaged.
    """
    path = files.expand(path)
    variables, _, meta = checkpoint.open_variables(path)
    results = checkpoint.results(path)
    try:
        opened = Stage(
            path=path,
            spec=meta["stage"],
            members=meta["members"],
            metrics=results["metrics"],
            diverged=results["diverged"],
            meta=meta,
            variables=variables,
        )
        _check(opened)
    except Exception as error:  # whatever a damaged or hostile file leads to; nothing in it is run
        raise InputError(
            f"{path} cannot be opened ({one_line(error)}); it must be as kdjax has written it"
        ) from error
    return opened


def _check(stage: Stage) -> None:
    """Whether the arrays are those of the model that the directory names, one for each member."""
    meta, model = stage.meta, stage.model_spec
    rules = MODELS[choose(MODELS, "its model", model.name)].arguments
    for name, value in model.arguments:
        check(rules[name], f"its model's {name}", value)
    check(whole(2), "its number of classes", meta["classes"])
    check(tuple_of(whole(1)), "its input shape", meta["input_shape"])
    for name, numbers in meta["preprocessing"].items():
        check(tuple_of(number(-math.inf)), f"its preprocessing's {name}", numbers)
    dtypes = ("uint8", "uint16", "float32")
    check(one_of(dtypes), "its inputs' dtype", meta.get("input_dtype", dtypes[0]))
    example = jax.ShapeDtypeStruct((1, *meta["input_shape"]), "float32")
    one = jax.eval_shape(stage.model.init, jax.random.key(0), example)
    shapes = jax.tree.map(lambda x: (len(stage.members), *x.shape), one)
    collections = {"params": stage.variables["params"], **stage.variables["model_state"]}
    if jax.tree.map(np.shape, collections) != shapes:
        raise ValueError("its arrays are not those of its model and members")
    names = meta.get("class_names", ())
    check(tuple_of(text()), "its classes' names", names)
    if len(names) not in (0, meta["classes"]):
        raise ValueError(f"it has {len(names)} names of {meta['classes']} classes")
    if len(stage.diverged) != len(stage.members):
        raise ValueError(f"it has {len(stage.diverged)} of {len(stage.members)} members' results")
