"""Everything that can be known, and be wrong, about an experiment before any compute."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import nets, parallel
from kdjax.config.spec import ExperimentSpec, StageSpec, grid, plain, weighs_labels
from kdjax.data import Dataset, fetch, numbered, subset
from kdjax.host import checkpoint, memory
from kdjax.mixing import mixing_matrix
from kdjax.nets.net import Net, Outputs
from kdjax.objective import check_objective
from kdjax.parallel import Layout
from kdjax.rules import InputError, shown
from kdjax.stage import Stage, open_stage
from kdjax.teachers import Teacher, of_stage
from kdjax.views import check_augment


@dataclass(frozen=True)
class Job:
    """A stage with its data, devices, teachers and place on disk.

    Attributes:
      path: of the stage in the config, for messages.
      status: "new", "unfinished" or "done".
      identity: plain data that determines the stage's results; kept in its directory.
      net: what is trained; of a `kind`, "dense" or "convolutional", and whether its batches may be
        split (`splits`).
      positions, labels: [N] the training examples, and their labels (negative: hidden).
      teachers: names of earlier stages of this run, or teachers.
      init_from: the name of an earlier stage, or a stage, or None.
    """

    stage: StageSpec
    path: str
    directory: Path
    status: str
    identity: dict[str, Any]
    net: Net
    kind: str
    splits: bool
    positions: np.ndarray
    labels: np.ndarray
    layout: Layout
    teachers: tuple[str | Teacher, ...]
    init_from: str | Stage | None


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
    net = stage.model.net or nets.build(
        {"name": stage.model.name, **dict(stage.model.arguments)}, dataset.classes, f"{path}.model"
    )
    taps = tuple(dict.fromkeys(tap for part in stage.objective for tap in part.term.student))
    found = nets.checked(net, dataset.input_shape, dataset.classes, f"{path}.model", taps)
    shapes = [leaf.shape for leaf in jax.tree.leaves(found.variables)]
    _check_memory(stage, shapes, dataset.input_shape, path)
    positions, labels = subset(
        dataset.splits["train"].labels, dataset.classes, stage.subset, f"{path}.subset"
    )
    _check_labels(stage, labels, path)
    teachers = tuple(_teacher(t, earlier, dataset, f"{path}.teacher") for t in stage.teacher)
    init = _resolve(stage.init_from, earlier, f"{path}.init_from") if stage.init_from else None
    _check_init(stage, net, init, earlier, dataset, f"{path}.init_from")
    if stage.taught or not teachers:
        outputs = _teacher_outputs(stage, teachers, earlier, dataset, path)
        check_objective(stage, found.outputs, outputs, dataset, f"{path}.objective")
    count = sum(_count(teacher, earlier) for teacher in teachers)
    if count:
        mixing_matrix(grid(stage), stage.mixing, count, np.zeros(count), path)
    members = len(grid(stage))
    layout = parallel.layout(spec.execution, members, stage.batch, path, found.splits)
    if spec.dataset.resident:
        _check_resident(dataset, len(positions), layout)
    if count and stage.teacher_logits != "live":
        _check_logits(stage, (len(positions), count, dataset.classes), layout, path)
    identity = _identity(stage, net, teachers, init, earlier)
    identity["dataset"] = dataset_identity(spec, dataset)
    directory = workdir / stage.name
    return Job(
        stage=stage,
        path=path,
        directory=directory,
        status=checkpoint.prepare(directory, identity),
        identity=identity,
        net=net,
        kind=found.kind,
        splits=found.splits,
        positions=positions,
        labels=labels,
        layout=layout,
        teachers=teachers,
        init_from=init,
    )


def _identity(
    stage: StageSpec,
    net: Net,
    teachers: tuple[str | Teacher, ...],
    init: str | Stage | None,
    earlier: dict[str, Job],
) -> dict[str, Any]:
    """The stage's fields but for `chunk`, and what it comes from: earlier stages, and teachers and
    directories, each known by what it holds, for it may be moved."""
    fields, sources = plain(stage), {}
    for field in ("chunk", "teacher", "init_from"):
        fields.pop(field, None)
    for teacher in teachers:
        if isinstance(teacher, str):
            sources[teacher] = earlier[teacher].identity
        else:
            sources[teacher.name] = plain(teacher.identity)
    fields["teacher"], fields["model"] = list(sources), plain(net)
    if init is not None:
        name = init if isinstance(init, str) else init.name
        digest = earlier[init].identity if isinstance(init, str) else _digest(init)
        fields["init_from"], sources[f"init {name}"] = name, digest
    return {"stage": fields, "from": sources}


def _digest(stage: Stage) -> str:
    return checkpoint.digest(stage.variables)


def dataset_identity(spec: ExperimentSpec, dataset: Dataset) -> dict[str, Any]:
    """The data set as far as it determines results: where it is and how it is read do not."""
    identity = plain(spec.dataset) | {"version": dataset.version}
    del identity["resident"]
    if spec.dataset.name.endswith(("/", ".npz")):
        identity["name"] = Path(spec.dataset.name).name  # the version is of its content
    return identity | {"validation": len(dataset.splits["validation"])}


def _check_memory(
    stage: StageSpec, parameters: list[tuple[int, ...]], example: tuple[int, ...], path: str
) -> None:
    """Whether the least that the stage must hold fits, by the shapes of one member's parameters and
    of one example; all in numbers of 4 bytes."""
    members = len(grid(stage))
    says = f"{path}.model is {stage.model.name!r}, whose parameters are"
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
    """Every label, for an objective of labels alone; some, for a label term beside teachers."""
    hidden = int((labels < 0).sum())
    missing = hidden == len(labels) if stage.taught else hidden > 0
    if missing and weighs_labels(stage):
        raise InputError(
            f"{path}.objective has a term of labels, but {path}.subset.labelled hides the labels "
            f"of {hidden} of its {len(labels)} examples; it must show "
            f"{'some' if stage.taught else 'every'} label"
        )


def _count(teacher: str | Teacher, earlier: dict[str, Job]) -> int:
    return len(grid(earlier[teacher].stage)) if isinstance(teacher, str) else teacher.count


def _teacher(
    reference: str | Teacher, earlier: dict[str, Job], dataset: Dataset, path: str
) -> str | Teacher:
    """An earlier stage's name as it is; a directory as a teacher, opened once a run."""
    if isinstance(reference, str):
        found = _resolve(reference, earlier, path)
        if isinstance(found, str):
            return found
        _check_fit(found, dataset, path, reference)
        return of_stage(found)
    for stage in reference.stages:
        _check_fit(stage, dataset, path, stage.where)
    if reference.sizes:
        _check_sizes(reference, dataset, path)
    elif reference.scope == "batch" and not reference.stages:
        _check_outputs(reference, dataset, path)
    return reference


def _teacher_outputs(
    stage: StageSpec,
    teachers: tuple[str | Teacher, ...],
    earlier: dict[str, Job],
    dataset: Dataset,
    path: str,
) -> Outputs | None:
    """The shapes of what the teachers say of one example, [K, 1, ...]; nothing is computed."""
    taps = tuple(dict.fromkeys(tap for part in stage.objective for tap in part.term.teacher))
    example = jax.ShapeDtypeStruct((1, *dataset.input_shape), "float32")
    found = []
    for teacher in teachers:
        if isinstance(teacher, str):
            job = earlier[teacher]
            facts = nets.checked(
                job.net, dataset.input_shape, dataset.classes, f"{path}.teacher", taps
            )
            outputs, count = facts.outputs, len(grid(job.stage))
            wide = lambda x, count=count: jax.ShapeDtypeStruct((count, *x.shape), x.dtype)
            found.append(jax.tree.map(wide, outputs))
        elif teacher.apply is not None:
            apply = lambda v, x, apply=teacher.apply: apply(v, x, taps)
            found.append(jax.eval_shape(apply, teacher.variables, example))
        else:
            count = teacher.count or len(grid(stage))
            logits = jax.ShapeDtypeStruct((count, 1, dataset.classes), np.float32)
            found.append(Outputs(logits, {}))
    if not found:
        return None
    return jax.eval_shape(lambda *each: jax.tree.map(lambda *x: jnp.concatenate(x), *each), *found)


def _check_sizes(teacher: Teacher, dataset: Dataset, path: str) -> None:
    """Whether logits are of this data set's examples and classes."""
    for split, (count, classes) in teacher.sizes.items():
        here = len(dataset.splits[split]), dataset.classes
        both = len(dataset.splits["train"]) + len(dataset.splits["validation"])
        if (count, classes) != here:
            raise InputError(
                f"{path} is {teacher.name!r}, whose {split} logits are of {count} examples and "
                f"{classes} classes; they must be of {here[0]} and {here[1]}"
                + ", for the others are for validation"
                * (split == "train" and count == both)
            )


def _check_outputs(teacher: Teacher, dataset: Dataset, path: str) -> None:
    """Whether a function takes this data set's examples and has its classes, by shapes alone."""
    example = jax.ShapeDtypeStruct((1, *dataset.input_shape), "float32")
    try:
        outputs = jax.eval_shape(lambda v, x: teacher.apply(v, x, ()), teacher.variables, example)
        shape = outputs.logits.shape
    except Exception as error:  # whatever a user's function does
        why = (str(error).splitlines() or [repr(error)])[0]
        raise InputError(
            f"{path} is {teacher.name!r}, which does not take examples of the shape "
            f"{dataset.input_shape}: {why}"
        ) from error
    if shape != (teacher.count, 1, dataset.classes):
        raise InputError(
            f"{path} is {teacher.name!r}, whose logits of one example are {shape[1:]}; they must "
            f"be (1, {dataset.classes})"
        )


def _resolve(reference: str, earlier: dict[str, Job], path: str) -> str | Stage:
    """The name of an earlier stage, or an opened directory."""
    if reference in earlier:
        return reference
    try:
        opened = open_stage(reference)
        opened.healthy()  # an InputError if it has no such member
        return opened
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
        there = opened.meta[what]
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
    stage: StageSpec,
    net: Net,
    init: str | Stage | None,
    earlier: dict[str, Job],
    dataset: Dataset,
    path: str,
) -> None:
    """Whether a stage may start from the variables of another."""
    if init is None:
        return
    members = len(grid(earlier[init].stage) if isinstance(init, str) else init.members)
    if isinstance(init, str):
        source, theirs = init, earlier[init].net
        alike = plain(theirs) == plain(net)
    else:
        _check_fit(init, dataset, path, stage.init_from)
        source, theirs = stage.init_from, init.meta["model"]
        shapes = lambda tree: jax.tree.map(np.shape, tree)
        example = jax.ShapeDtypeStruct((1, *dataset.input_shape), "float32")
        ours = jax.eval_shape(net.init, jax.random.key(0), example)
        alike = jax.tree.map(lambda s: s[1:], shapes(init.variables), is_leaf=_is_shape) == shapes(
            ours
        )
    if not alike:
        name = theirs if isinstance(theirs, str) else theirs.name
        raise InputError(
            f"{path} is {source!r}, whose net {name} has other variables than this stage's "
            f"{net.name}"
        )
    if members not in (1, len(grid(stage))):
        raise InputError(
            f"{path} is {source!r} with {members} members; it must have 1, or as many as the "
            f"stage, {len(grid(stage))}"
        )


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(n, int) for n in value)
