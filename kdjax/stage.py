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

from kdjax import exported, parallel, raw
from kdjax.data import Preprocessing, numbered, one_line
from kdjax.host import checkpoint, files
from kdjax.nets import cost, export
from kdjax.nets.derivatives import by_code
from kdjax.nets.net import Array, Net, Outputs, Variables
from kdjax.population import choose_plan, over_members
from kdjax.raw import BATCH
from kdjax.rules import InputError, shown, whole
from kdjax.views import preprocess


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
      origin: the `members`, `metrics` and `diverged` of the stage that this is a part of; None for
        one that is whole.
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
    origin: dict[str, Any] | None = None

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

    @functools.cached_property
    def _exported(self) -> export.Forward:
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.variables)
        return export.load(self.program, one, tuple(self.meta["input_shape"]), self.meta["classes"])

    def forward(self, variables: Variables, inputs: Array, taps: tuple[str, ...] = ()) -> Outputs:
        """(variables [M, ...], preprocessed inputs [B, ...]) -> Outputs [M, B, ...], traceable.

        The program of the directory is what computes, so that every process gives the same logits;
        the net's own code does where layers are tapped, and where members are vmapped.

        Raises:
          InputError: layers are tapped, or it is differentiated, and the net's code is not at hand.
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
        program = by_code(self._exported.call, net, self.where)
        exported = lambda v, x: Outputs(program(v, x), {})
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
        now = {name: getattr(self, name) for name in ("members", "metrics", "diverged")}
        return dataclasses.replace(
            self,
            members=pick(self.members),
            diverged=pick(self.diverged),
            metrics={s: {k: pick(v) for k, v in m.items()} for s, m in self.metrics.items()},
            variables=jax.tree.map(lambda x: x[members], self.variables),
            origin=self.origin or now,
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

    def export(self, folder: str | Path, onnx: bool | None = None) -> Path:
        """Writes the one member, such as `stage.best()`, in forms that run without kdjax:
        `model.safetensors` (its parameters), `forward.stablehlo` and `model.onnx` (raw inputs [B,
        ...] -> logits [B, C], parameters and preprocessing within), with `config.json` and a model
        card, `README.md`. Each form is run against this stage. `kdjax.open_export` opens it.

        Args:
          folder: a new or an empty one; it is there when all of it is, or not at all.
          onnx: whether ONNX is among the forms; None: if `kdjax[onnx]` is installed.

        Returns:
          The folder's path.

        Raises:
          InputError: there are several members, the one diverged, the folder is taken or cannot be
            written, or a form cannot be made or gives other logits (1e-5 of the largest).
        """
        if len(self.members) != 1:
            raise InputError(
                f"{self.where} has {len(self.members)} members; export takes one, as of "
                "stage.best() or stage.part(0)"
            )
        self.healthy()
        one = jax.tree.map(lambda x: x[0], self.variables)
        prepared, numbers = self.preprocessing, self.members[0]
        student = exported.Student(
            where=self.where,
            spec=self.spec,
            numbers=numbers,
            meta=self.meta,
            class_names=self.class_names,
            metrics={s: {k: v[0] for k, v in m.items()} for s, m in self.metrics.items()},
            spread=_spread(self.origin or vars(self), numbers),
            variables=one,
            forward=lambda x: self._exported.call(one, preprocess(x, prepared)).astype(np.float32),
            predict=lambda x: self.predict(x)[0],
        )
        return exported.write(folder, student, onnx)

    def read_images(self, paths: str | Path | Iterable[str | Path]) -> np.ndarray:
        """Image files as `predict` takes them, [B, H, W, C] uint8: read as those of a folder are,
        cropped to the shape of the net's inputs and scaled to it.

        Raises:
          InputError: the net was not trained on images of 8 bits, or a file is none.
        """
        return raw.read_images(paths, self.meta, self.where)

    def predict(self, inputs: Any) -> np.ndarray:
        """Logits [M, B, C] of raw inputs [B, ...], as the data set has them.

        Raises:
          InputError: inputs have another shape or range than the data set's, are floats where
            those are integers or integers where those are floats, or are no finite numbers.
        """
        inputs = raw.checked(inputs, self.meta)
        if not len(inputs):
            return np.zeros((len(self.members), 0, self.meta["classes"]), np.float32)
        return raw.in_batches(lambda batch: self._program(len(batch))(batch), inputs, axis=1)

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


def _spread(stage: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, Any]:
    """{split: {metric: n, mean and standard deviation}} over the healthy members of a stage that
    have these numbers but for the seed."""
    but_seed = lambda member: {k: v for k, v in member.items() if k != "seed"}
    like = [
        m
        for m, (member, bad) in enumerate(zip(stage["members"], stage["diverged"], strict=True))
        if not bad and but_seed(member) == but_seed(numbers)
    ]

    def over(values: list[float | None]) -> dict[str, float | None]:
        known = np.array([values[m] for m in like], float)  # None becomes NaN
        std = float(known.std(ddof=1)) if len(like) > 1 else None
        return {"n": len(like), "mean": float(known.mean()), "std": std}

    return {s: {k: over(v) for k, v in m.items()} for s, m in stage["metrics"].items()}


def _check(stage: Stage) -> None:
    """Whether the arrays are those that the directory's program takes, one for each member."""
    meta = stage.meta
    raw.check_facts(meta, meta.get("class_names", ()))
    members = len(stage.members)
    if {len(leaf) for leaf in jax.tree.leaves(stage.variables)} != {members}:
        raise ValueError("its arrays are not one for each of its members")
    _ = stage.kind  # a ValueError if its program takes other arrays
    if len(stage.diverged) != members:
        raise ValueError(f"it has {len(stage.diverged)} of {members} members' results")
