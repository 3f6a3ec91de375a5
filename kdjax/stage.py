"""A finished stage, opened without the config and without the code that made it."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import parallel
from kdjax.data import DIGITS, Preprocessing, numbered, one_line, shaped
from kdjax.data.given import as_array
from kdjax.host import checkpoint, files
from kdjax.nets import cost, export
from kdjax.nets.net import Array, Net, Outputs, Variables
from kdjax.population import choose_plan, over_members
from kdjax.rules import InputError, check, number, one_of, shown, text, tuple_of, whole
from kdjax.views import preprocess

BATCH = 1000  # examples of one prediction call, at most


@dataclass(frozen=True, eq=False, repr=False)
class Stage:
    """A finished stage: M members of one net.

    Attributes:
      path: its directory; None for a stage that was kept in memory.
      spec: the stage's fields, as its config gave them.
      members: the numbers of each member (seed, temperature, ...).
      metrics: split to metric name to [M] values, at the last step.
      diverged: [M] whether a member did; its predictions mean nothing.
      costs: parameters, flops_per_example and latency_ms of one member.
      meta: model, classes, inputs, preprocessing, data set, teachers, versions.
      variables: the net's variables, each leaf [M, ...].
      program: the net's evaluation as `nets.export` wrote it.
      net: the net itself, where the code that made it is at hand.
      report: of the run that made it, for a stage that `kdjax.train` or `distill` returned.
    """

    path: Path | None
    spec: dict[str, Any]
    members: list[dict[str, Any]]
    metrics: dict[str, dict[str, list[float | None]]]
    diverged: list[bool]
    costs: dict[str, float]
    meta: dict[str, Any]
    variables: Variables
    program: bytes
    net: Net | None = None
    report: Any = None

    def __repr__(self) -> str:
        members = f"{len(self.members)} x {self.meta['model']}"
        each = cost.parameters(self.variables["params"]) // len(self.members)
        data = self.meta["dataset"]["name"]
        return f"<{self.name}: {members}, {each:,} parameters each, trained on {data}>"

    @property
    def name(self) -> str:
        return self.spec["name"]

    @property
    def kind(self) -> str:
        """ "convolutional" or "dense", on which the plan depends."""
        return self._exported.kind

    @property
    def where(self) -> str:
        """How a message names it."""
        return str(self.path or f"the stage {self.name!r}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """[C], in the order of the logits; numbers where the data set has no names."""
        return tuple(self.meta.get("class_names") or numbered(self.meta["classes"]))

    @property
    def preprocessing(self) -> Preprocessing:
        numbers = self.meta["preprocessing"]
        return Preprocessing(tuple(numbers["mean"]), tuple(numbers["scale"]))

    @property
    def accepts(self) -> tuple[float, float]:
        """The least and the largest input that `predict` takes: of integers those of the data set,
        of floats those within ten times its range on either side."""
        dtype, known = self.meta["input_dtype"], self.meta.get("input_range")
        if dtype == "float32":
            low, high = known or (-math.inf, math.inf)
            far = 10 * (high - low) or math.inf
            return low - far, high + far
        if known is None and self.meta["dataset"].get("version") == DIGITS:
            return 0, 16
        return tuple(known) if known else (0, float(np.iinfo(dtype).max))

    @functools.cached_property
    def _exported(self) -> export.Forward:
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.variables)
        return export.load(self.program, one, tuple(self.meta["input_shape"]), self.meta["classes"])

    def forward(self, variables: Variables, inputs: Array, taps: tuple[str, ...] = ()) -> Outputs:
        """(variables [M, ...], preprocessed inputs [B, ...]) -> Outputs [M, B, ...], traceable.

        The program of the directory is what computes, so that every process gives the same logits;
        the net's own code does where layers are tapped, and where members are vmapped.

        Raises:
          InputError: layers are tapped, and the net's code is not at hand.
        """
        if taps and self.net is None:
            raise InputError(
                f"{self.where} is opened without its code, so that its layers {', '.join(taps)} "
                "cannot be read; it must be trained in the same experiment"
            )
        large = 2**62  # a forward pass alone is fastest member by member
        plan = choose_plan("auto", jax.default_backend(), self.kind, large)
        net = self.net
        if net is not None and (taps or plan.members == "vmap"):
            one = lambda v, x: net.apply(v, x, None, taps)[0]
            return over_members(one, plan.members, (0, None))(variables, inputs)
        how = "unroll" if plan.members == "vmap" else plan.members  # it cannot be vmapped
        exported = lambda v, x: Outputs(self._exported.call(v, x), {})
        return over_members(exported, how, (0, None))(variables, inputs)

    def healthy(self) -> "Stage":
        """The stage less the members that diverged.

        Raises:
          InputError: all did.
        """
        kept = np.flatnonzero(~np.array(self.diverged))
        if not len(kept):
            raise InputError(f"{self.where} has no member that did not diverge; train it again")
        return self if len(kept) == len(self.members) else self.part(kept)

    def part(self, members: int | Iterable[int]) -> "Stage":
        """The stage with these of its members alone.

        Raises:
          InputError: there is no such member, or none is named.
        """
        members = list(members) if isinstance(members, Iterable) else [members]
        known = whole(0, len(self.members) - 1)
        if not members or not all(map(known.accepts, members)):
            raise InputError(
                f"members of {self.where} are {shown(members)}; they must be one or more numbers "
                f"from 0 to {len(self.members) - 1}"
            )
        members = [int(m) for m in members]
        pick = lambda values: [values[m] for m in members]
        return dataclasses.replace(
            self,
            members=pick(self.members),
            diverged=pick(self.diverged),
            metrics={s: {k: pick(v) for k, v in m.items()} for s, m in self.metrics.items()},
            variables=jax.tree.map(lambda x: x[members], self.variables),
        )

    def best(self) -> "Stage":
        """The one member, of all cells, with the fewest validation errors. Partly by chance: on the
        test set it may do no better than the others.

        Raises:
          InputError: all diverged.
        """
        healthy = self.healthy()
        errors = np.array(healthy.metrics["validation"]["errors"], float)
        return healthy.part([int(errors.argmin())])

    def read_images(self, paths: str | Path | Iterable[str | Path]) -> np.ndarray:
        """Image files as `predict` takes them, [B, H, W, C] uint8: read as those of a folder are,
        cropped to the shape of the net's inputs and scaled to it.

        Raises:
          InputError: the net was not trained on images of 8 bits, or a file is none.
        """
        from kdjax.data.images import read_images  # here, for only folders need Pillow

        shape, dtype = self.meta["input_shape"], self.meta["input_dtype"]
        _, high = self.accepts
        if len(shape) != 3 or shape[2] not in (1, 3) or dtype != "uint8" or high != 255:
            raise InputError(
                f"{self.where} was trained on inputs of the shape {shape}, dtype {dtype}"
                f"{f', from 0 to {high:g}' * (dtype == 'uint8')}; image files can be read for nets "
                "that were trained on images [H, W, 1 or 3] of 8 bits, from 0 to 255"
            )
        return read_images(paths, shape)

    def predict(self, inputs: Any) -> np.ndarray:
        """Logits [M, B, C] of raw inputs [B, ...], as the data set has them.

        Raises:
          InputError: inputs have another shape or range than the data set's, are floats where
            those are integers or integers where those are floats, or are no finite numbers.
        """
        inputs = self._checked(shaped(as_array("inputs", inputs), self.meta["input_shape"]))
        if not len(inputs):
            return np.zeros((len(self.members), 0, self.meta["classes"]), np.float32)
        size = min(BATCH, 1 << (len(inputs) - 1).bit_length())  # few sizes, to compile few times
        program = self._program(size)
        logits = []
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            padded = batch if len(batch) == size else np.resize(batch, (size, *batch.shape[1:]))
            logits.append(program(padded)[:, : len(batch)])
        return logits[0] if len(logits) == 1 else np.concatenate(logits, axis=1)

    def _program(self, size: int) -> Callable[[np.ndarray], np.ndarray]:
        """(raw inputs [size, ...]) -> logits [M, size, C], on the devices that divide a batch."""
        count = jax.local_device_count() if size == BATCH else 1
        shards = max(d for d in range(1, count + 1) if size % d == 0)
        return self._programs.setdefault(shards, self._compiled(shards))

    @functools.cached_property
    def _programs(self) -> dict[int, Callable[[np.ndarray], np.ndarray]]:
        return {}

    def _compiled(self, shards: int) -> Callable[[np.ndarray], np.ndarray]:
        if shards in self._programs:
            return self._programs[shards]
        prepared = self.preprocessing
        logits = lambda v, x: self.forward(v, preprocess(x, prepared)).logits.astype(np.float32)
        if shards == 1:
            program, variables = jax.jit(logits), jax.device_put(self.variables)
            return lambda inputs: np.asarray(program(variables, inputs))
        layout = parallel.Layout(data_shards=shards)
        split, copies = parallel.pmap(logits, layout), parallel.replicate(self.variables, layout)

        def on_all(inputs: np.ndarray) -> np.ndarray:
            out = np.asarray(split(copies, parallel.place_batch(inputs, layout, axis=0)))
            return np.concatenate(list(out), axis=1)

        return on_all

    def _checked(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs of the shape, the kind and the range that the net was trained on."""
        shape, dtype = tuple(self.meta["input_shape"]), self.meta["input_dtype"]
        if inputs.ndim == 0 or inputs.shape[1:] != shape:
            raise InputError(
                f"inputs have the shape {inputs.shape}; it must be [B, "
                f"{', '.join(map(str, shape))}]"
            )
        if inputs.dtype.kind not in "biuf":
            raise InputError(f"inputs are {inputs.dtype}; they must be numbers")
        floats = inputs.dtype.kind == "f"
        if floats:
            with np.errstate(over="ignore"):
                inputs = inputs.astype(np.float32, copy=False)
            wrong = inputs.size - np.count_nonzero(np.isfinite(inputs))
            if wrong:
                raise InputError(
                    f"inputs have {wrong} values NaN or infinite; they must be finite in float32"
                )
        if floats != (dtype == "float32"):
            kind = "floats" if dtype == "float32" else "integers"
            raise InputError(
                f"inputs are {'floats' if floats else inputs.dtype}; they must be {kind}, as the "
                "data set has them"
            )
        low, high = self.accepts
        if inputs.size and not (low <= inputs.min() and inputs.max() <= high):
            known = self.meta["input_range"] if floats else (low, high)
            of_data = "near those of the data set, " if floats else ""
            raise InputError(
                f"inputs have values from {inputs.min():g} to {inputs.max():g}; they must be "
                f"{of_data}from {known[0]:g} to {known[1]:g}"
            )
        return inputs


def open_stage(path: str | Path, net: Net | None = None) -> Stage:
    """Opens a finished stage's directory. Nothing that it names is imported.

    Args:
      path: of the directory.
      net: the net that was trained, where it is at hand: its layers can then be tapped.

    Raises:
      InputError: there is no such directory, it is no stage, is not finished, or is damaged, or
        `net` is not the net that was trained.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path is {shown(path)}; it must be the path of a stage's directory")
    if net is not None and not isinstance(net, Net):
        raise InputError(
            f"net is {shown(net)}; it must be a Net, as kdjax.linen, nnx, equinox or function make"
        )
    path = files.expand(path)
    variables, meta = checkpoint.open_variables(path)
    results, program = checkpoint.results(path), checkpoint.read_forward(path)
    try:
        opened = Stage(
            path=path,
            spec=meta["stage"],
            members=meta["members"],
            metrics=results["metrics"],
            diverged=results["diverged"],
            costs=_costs(results),
            meta=meta,
            variables=variables,
            program=program,
        )
        _check(opened)
    except Exception as error:  # whatever a damaged or hostile file leads to; nothing in it is run
        raise InputError(
            f"{path} cannot be opened ({one_line(error)}); it must be as kdjax has written it"
        ) from error
    if net is not None:
        one = jax.tree.map(lambda x: x[np.argmin(opened.diverged)], opened.variables)
        export.check_same(net, one, opened._exported, tuple(meta["input_shape"]), str(path))
    return dataclasses.replace(opened, net=net)


def _costs(results: Mapping[str, Any]) -> dict[str, float]:
    """The costs of one member, NaN where they are not known, which JSON has as null."""
    known = {k: results[k] for k in ("parameters", "flops_per_example", "latency_ms")}
    return {k: math.nan if value is None else value for k, value in known.items()}


def _check(stage: Stage) -> None:
    """Whether the arrays are those that the directory's program takes, one for each member."""
    meta = stage.meta
    check(text(), "its model", meta["model"])
    check(whole(2), "its number of classes", meta["classes"])
    check(tuple_of(whole(1)), "its input shape", meta["input_shape"])
    for name, numbers in meta["preprocessing"].items():
        check(tuple_of(number(-math.inf)), f"its preprocessing's {name}", numbers)
    check(one_of(("uint8", "uint16", "float32")), "its inputs' dtype", meta["input_dtype"])
    members = len(stage.members)
    if {len(leaf) for leaf in jax.tree.leaves(stage.variables)} != {members}:
        raise ValueError("its arrays are not one for each of its members")
    _ = stage.kind  # a ValueError if its program takes other arrays
    if meta.get("input_range") is not None:
        check(tuple_of(number(-math.inf)), "the range of its inputs", meta["input_range"])
        if len(meta["input_range"]) != 2:
            raise ValueError("the range of its inputs is not of two numbers")
    names = meta.get("class_names", ())
    check(tuple_of(text()), "its classes' names", names)
    if len(names) not in (0, meta["classes"]):
        raise ValueError(f"it has {len(names)} names of {meta['classes']} classes")
    if len(stage.diverged) != members:
        raise ValueError(f"it has {len(stage.diverged)} of {members} members' results")
