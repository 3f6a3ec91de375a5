"""Everything that can be known, and be wrong, about an experiment before any compute."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import parallel
from kdjax.config.spec import ExperimentSpec, StageSpec, grid, hard_term, plain, teachers_of
from kdjax.data.dataset import Dataset, fetch
from kdjax.data.sources import numbered
from kdjax.data.subset import subset
from kdjax.host import checkpoint, memory
from kdjax.losses.logits import LOSSES
from kdjax.mixing import mixing_matrix
from kdjax.nets.modules import MODELS
from kdjax.parallel import Layout
from kdjax.rules import InputError, shown
from kdjax.stage import Stage, build_model, open_stage
from kdjax.views import check_augment


@dataclass(frozen=True)
class Job:
    """A stage with its data, devices, teachers and place on disk.

    Attributes:
      path: of the stage in the config, for messages.
      status: "new", "unfinished" or "done".
      identity: plain data that determines the stage's results; kept in its directory.
      positions, labels: [N] the training examples, and their labels (negative: hidden).
      teachers, init_from: directories of finished stages, or of earlier ones of this run.
    """

    stage: StageSpec
    path: str
    directory: Path
    status: str
    identity: dict[str, Any]
    positions: np.ndarray
    labels: np.ndarray
    layout: Layout
    teachers: tuple[Path, ...]
    init_from: Path | None


def prepare(spec: ExperimentSpec, dataset: Dataset, workdir: Path) -> tuple[Job, ...]:
    """A job for each stage.

    Raises:
      InputError: a stage does not fit the data, the devices, its teachers, or what stands in
        `workdir`. Nothing has been written or computed by then.
    """
    if spec.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise InputError(
            "config.tensorboard is True, but tensorboardX is not installed; "
            "pip install 'kdjax[tensorboard]'"
        )
    checkpoint.check_claim(workdir, claim(spec, dataset))
    jobs: dict[str, Job] = {}
    for stage in spec.stages:
        jobs[stage.name] = _job(stage, spec, dataset, workdir, jobs)
    return tuple(jobs.values())


def claim(spec: ExperimentSpec, dataset: Dataset) -> dict[str, Any]:
    """What makes an experiment another one, whose report must not replace this one's."""
    names = [stage.name for stage in spec.stages]
    return {"dataset": dataset_identity(spec, dataset), "stages": names}


def _job(
    stage: StageSpec, spec: ExperimentSpec, dataset: Dataset, workdir: Path, earlier: dict[str, Job]
) -> Job:
    path = f"config.stages.{stage.name}"
    check_augment(stage.augment, dataset.input_shape, f"{path}.augment")
    _check_model(stage, dataset, path)
    positions, labels = subset(
        dataset.splits["train"].labels, dataset.classes, stage.subset, f"{path}.subset"
    )
    _check_labels(stage, labels, path)
    references = {
        field: [_resolve(ref, earlier, f"{path}.{field}") for ref in teachers_of(value)]
        for field, value in (("teacher", stage.teacher), ("init_from", stage.init_from))
    }
    for field, found in references.items():
        for reference, _, opened in found:
            if opened is not None:
                _check_fit(opened, dataset, f"{path}.{field}", reference)
    for reference, _, opened in references["init_from"]:
        _check_init(stage, earlier.get(reference), opened, f"{path}.init_from", reference)
    count = sum(
        len(opened.healthy().members if opened else grid(earlier[reference].stage))
        for reference, _, opened in references["teacher"]
    )
    if count:
        mixing_matrix(stage, count, np.zeros(count), path)
    layout = parallel.layout(spec.execution, len(grid(stage)), stage.batch, path)
    if spec.dataset.resident:
        _check_resident(dataset, len(positions), layout)
    if count and stage.teacher_logits != "live":
        _check_logits(stage, (len(positions), count, dataset.classes), layout, path)
    identity = _identity(stage, references, earlier)
    identity["dataset"] = dataset_identity(spec, dataset)
    directory = workdir / stage.name
    return Job(
        stage=stage,
        path=path,
        directory=directory,
        status=checkpoint.prepare(directory, identity),
        identity=identity,
        positions=positions,
        labels=labels,
        layout=layout,
        teachers=tuple(directory for _, directory, _ in references["teacher"]),
        init_from=next((directory for _, directory, _ in references["init_from"]), None),
    )


def _identity(
    stage: StageSpec, references: dict[str, list], earlier: dict[str, Job]
) -> dict[str, Any]:
    """The stage's fields but for `chunk`, and what it comes from: earlier stages, and directories,
    each known by its name and what it holds, for it may be moved."""
    fields, sources = plain(stage), {}
    del fields["chunk"]
    for field, found in references.items():
        known = {}
        for reference, directory, opened in found:
            if opened is None:
                known[reference] = earlier[reference].identity
            else:
                digest = checkpoint.digest(opened.variables)
                known[f"{directory.resolve().name}@{digest[:12]}"] = digest
        if any(opened is not None for _, _, opened in found):
            fields[field] = ",".join(known)
        sources |= known
    return {"stage": fields, "from": sources}


def dataset_identity(spec: ExperimentSpec, dataset: Dataset) -> dict[str, Any]:
    """The data set as far as it determines results: where it is and how it is read do not."""
    identity = plain(spec.dataset) | {"version": dataset.version}
    del identity["resident"]
    if spec.dataset.name.endswith(("/", ".npz")):
        identity["name"] = Path(spec.dataset.name).name  # the version is of its content
    return identity | {"validation": len(dataset.splits["validation"])}


def _check_model(stage: StageSpec, dataset: Dataset, path: str) -> None:
    """Whether the net takes examples of this shape; nothing is computed."""
    shape, rank = dataset.input_shape, MODELS[stage.model.name].rank
    if len(shape) < rank:
        raise InputError(
            f"{path}.model.name is {stage.model.name!r}, which needs examples of {rank} axes; "
            f"those of {dataset.name!r} have the shape {shape}"
        )
    model = build_model(stage.model, dataset.classes)
    example, why = jax.ShapeDtypeStruct((1, *shape), "float32"), None
    try:
        variables = jax.eval_shape(model.init, jax.random.key(0), example)
        if not all(leaf.size for leaf in jax.tree.leaves(variables)):
            why = "a layer would have no inputs"
    except Exception as error:  # whatever a module does with a shape that it does not fit
        why = (str(error).splitlines() or [repr(error)])[0]
    if why:
        raise InputError(
            f"{path}.model is {dict(stage.model.arguments)}, which does not take examples of the "
            f"shape {shape}: {why}"
        )
    _check_memory(stage, [leaf.shape for leaf in jax.tree.leaves(variables)], shape, path)


def _check_memory(
    stage: StageSpec, parameters: list[tuple[int, ...]], example: tuple[int, ...], path: str
) -> None:
    """Whether the least that the stage must hold fits, by the shapes of one member's parameters and
    of one example; all in numbers of 4 bytes."""
    members = len(grid(stage))
    says = f"{path}.model is {dict(stage.model.arguments)}, whose parameters are"
    memory.check(says, [((members, *shape), 4) for shape in parameters])
    batches = members if stage.order == "own" else 1
    says = f"{path}.batch is {stage.batch}, for which a chunk needs"
    chunk = (batches, min(stage.chunk, stage.steps), stage.batch)
    memory.check(says, [(chunk, 4), ((batches, stage.batch, *example), 4)])


def _check_resident(dataset: Dataset, examples: int, layout: parallel.Layout) -> None:
    """Whether the examples fit in memory; each device of a CPU holds a copy, all in one memory."""
    one = fetch(dataset.splits["train"], np.arange(1))
    copies = layout.own if jax.default_backend() == "cpu" else 1
    says = (
        f"config.dataset.resident is True (False reads as they are needed), but {copies} x "
        f"{examples} examples are"
    )
    memory.check(says, [((copies, examples, *one.shape[1:]), one.itemsize)])


def _check_logits(
    stage: StageSpec, shape: tuple[int, int, int], layout: parallel.Layout, path: str
) -> None:
    """Whether the teachers' logits [N, K, C] fit in memory, on the host and on a CPU's devices."""
    copies = 1 + (layout.own if jax.default_backend() == "cpu" else 0)
    says = f"{path}.teacher_logits is {stage.teacher_logits!r}, and {copies} x {shape} logits are"
    itemsize = 2 if stage.teacher_logits == "cached_float16" else 4
    memory.check(says, [((copies, *shape), itemsize)])


def _check_labels(stage: StageSpec, labels: np.ndarray, path: str) -> None:
    """Every label, for a loss of labels alone; some, for a label term beside soft targets."""
    hidden = int((labels < 0).sum())
    needs_all = LOSSES[stage.loss].labels and not LOSSES[stage.loss].teacher
    missing = hidden > 0 if needs_all else hidden == len(labels)
    if missing and hard_term(stage):
        raise InputError(
            f"{path}.loss is {stage.loss!r} with a label term, but {path}.subset.labelled hides "
            f"the labels of {hidden} of its {len(labels)} examples; it must show "
            f"{'every' if needs_all else 'some'} label"
        )


def _resolve(reference: str, earlier: dict[str, Job], path: str) -> tuple[str, Path, Stage | None]:
    if reference in earlier:
        return reference, earlier[reference].directory, None
    try:
        opened = open_stage(reference)
        opened.healthy()  # an InputError if it has no such member
        return reference, opened.path, opened
    except InputError as error:
        raise InputError(f"{path} is {reference!r}: {error}") from error


def _check_fit(opened: Stage, dataset: Dataset, path: str, reference: str) -> None:
    ours = {
        "classes": dataset.classes,
        "input_shape": list(dataset.input_shape),
        "input_dtype": dataset.input_dtype,
        "preprocessing": plain(dataset.preprocessing),
    }
    for what, here in ours.items():
        there = opened.meta.get(what, here)  # directories of before have no dtype
        if there != here:
            raise InputError(
                f"{path} is {reference!r}, whose {what} {there} differs from this data set's "
                f"{here}; the two must be equal"
            )
    names = zip(dataset.class_names, opened.class_names, strict=True)
    other = next(((n, here, there) for n, (here, there) in enumerate(names) if here != there), None)
    nameless = numbered(dataset.classes)
    if other and nameless not in (dataset.class_names, opened.class_names):
        number, here, there = other
        raise InputError(
            f"{path} is {reference!r}, whose class {number} is {shown(there)}; it must be "
            f"{shown(here)}, for all classes must be this data set's, in the same order"
        )


def _check_init(
    stage: StageSpec, job: Job | None, opened: Stage | None, path: str, reference: str
) -> None:
    model = opened.model_spec if opened else job.stage.model
    members = len(opened.members if opened else grid(job.stage))
    if model != stage.model:
        raise InputError(f"{path} is {reference!r}, whose model {model} is not {stage.model}")
    if members not in (1, len(grid(stage))):
        raise InputError(
            f"{path} is {reference!r} with {members} members; it must have 1, or as many as the "
            f"stage, {len(grid(stage))}"
        )
