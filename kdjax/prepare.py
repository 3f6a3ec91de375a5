"""Everything that can be known, and be wrong, about an experiment before any compute."""

import dataclasses
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import class_map, fit, identity, nets, outputs, parallel
from kdjax.chosen import check_numbers_from
from kdjax.class_map import ClassMap
from kdjax.config.spec import ExperimentSpec, StageSpec, grid, plain, weighs_labels
from kdjax.data import Dataset, subset
from kdjax.host import checkpoint, files, ownership
from kdjax.mixing import mixing_matrix
from kdjax.nets.net import Net, Outputs, Variables
from kdjax.objective import check_objective
from kdjax.parallel import Layout
from kdjax.rules import InputError
from kdjax.stage import Stage, open_stage
from kdjax.teachers import Teacher, as_teacher
from kdjax.views import check_augment


@dataclass(frozen=True)
class Job:
    """A stage with its data, devices, teachers and place on disk.

    Attributes:
      path: of the stage in the config, for messages.
      status: "new", "unfinished" or "done".
      identity: plain data that determines the stage's results; kept in its directory.
      net: what is trained; of a `kind`, "dense" or "convolutional".
      splits: whether its batches may be split over devices.
      variables: of one member, their shapes and dtypes.
      start: tells how they are made of a seed.
      positions, labels: [N] the training examples, and their labels (negative: hidden).
      teachers: names of earlier stages of this run, or teachers.
      taught: the shapes of what the teachers say of one example, [K, 1, ...]; None if the objective
        has no teachers.
      init_from: the name of an earlier stage, or a stage, or None.
      kept: whether the directory is there after the run.
    """

    stage: StageSpec
    path: str
    directory: Path
    status: str
    identity: dict[str, Any]
    net: Net
    variables: Variables
    start: str
    kind: str
    splits: bool
    positions: np.ndarray
    labels: np.ndarray
    layout: Layout
    teachers: tuple[str | Teacher, ...]
    taught: Outputs | None
    init_from: str | Stage | None
    kept: bool = True


class Known:
    """What the stages of a run refer to, each found once: directories, and teachers, of which those
    with one name and identity are one."""

    def __init__(self) -> None:
        self.stages: dict[Path, Stage] = {}
        self.teachers: dict[Any, Teacher] = {}

    def stage(self, reference: str | Stage) -> Stage:
        """A finished stage; an InputError if it has no member that did not diverge."""
        if isinstance(reference, Stage):
            reference.healthy()
            return reference
        path = files.expand(reference).resolve()
        if path not in self.stages:
            opened = open_stage(reference)
            opened.healthy()
            self.stages[path] = opened
        return self.stages[path]

    def teacher(self, given: Any, made: Callable[[], Teacher]) -> Teacher:
        """The teacher that is made of `given`, a Stage or a Teacher."""
        if given not in self.teachers:
            found = made()
            key = found.name, files.to_json(plain(found.identity))
            self.teachers[given] = self.teachers.setdefault(key, found)
        return self.teachers[given]


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
    ownership.check_claim(workdir, claim(spec, dataset))
    jobs: dict[str, Job] = {}
    known = Known()
    for stage in spec.stages:
        jobs[stage.name] = _job(stage, spec, dataset, workdir, jobs, known)
    return tuple(jobs.values())


def renewed(
    jobs: tuple[Job, ...], spec: ExperimentSpec, dataset: Dataset, workdir: Path, kept: bool
) -> tuple[Job, ...]:
    """The jobs by what stands in `workdir` now, for another run may have ended since.

    Raises:
      InputError: they do not fit it any more.
    """
    ownership.check_claim(workdir, claim(spec, dataset))
    status = lambda job: checkpoint.prepare(job.directory, job.identity)
    return tuple(dataclasses.replace(job, status=status(job), kept=kept) for job in jobs)


def claim(spec: ExperimentSpec, dataset: Dataset) -> dict[str, Any]:
    """What makes an experiment another one, whose report must not replace this one's."""
    names = [stage.name for stage in spec.stages]
    return {"dataset": identity.of_data(spec, dataset), "stages": names}


def _job(
    stage: StageSpec,
    spec: ExperimentSpec,
    dataset: Dataset,
    workdir: Path,
    earlier: dict[str, Job],
    known: Known,
) -> Job:
    path = f"config.stages.{stage.name}"
    check_numbers_from(stage, {n: job.stage for n, job in earlier.items()}, path)
    check_augment(stage.augment, dataset.input_shape, f"{path}.augment")
    net = stage.model.net or nets.build(
        {"name": stage.model.name, **dict(stage.model.arguments)}, dataset.classes, f"{path}.model"
    )
    taps = tuple(dict.fromkeys(tap for part in stage.objective for tap in part.term.student))
    found = nets.checked(net, dataset.input_shape, dataset.classes, f"{path}.model", taps)
    shapes = [leaf.shape for leaf in jax.tree.leaves(found.variables)]
    fit.check_memory(stage, shapes, dataset.input_shape, path)
    positions, labels = subset(
        dataset.splits["train"].labels,
        dataset.class_names,
        stage.subset,
        f"{path}.subset",
        unlabelled=stage.taught,
    )
    _check_labels(stage, labels, path)
    teachers = tuple(
        _teacher(t, earlier, known, dataset, stage.class_map, f"{path}.teacher")
        for t in stage.teacher
    )
    fit.check_masked(stage, teachers, path)
    fit.check_heads(stage, path)
    if stage.taught and not stage.init_from and net.variables is None:
        for teacher in teachers:
            for start in _starts(teacher, earlier):
                fit.check_start(stage, found.start, *start, path)
    init = None
    if stage.init_from:
        init = _resolve(stage.init_from, earlier, known, f"{path}.init_from")
    if isinstance(init, str):
        job, says = earlier[init], f"{path}.init_from is {init!r}"
        fit.check_variables(job.net.name, job.variables, net.name, found.variables, says)
    elif init is not None:
        says = f"{path}.init_from is {stage.init_from!r}"
        fit.check_fit(init, dataset, f"{path}.init_from", stage.init_from)
        one = jax.tree.map(lambda x: x[0], init.variables)
        fit.check_variables(init.meta["model"], one, net.name, found.variables, says)
    if init is not None:
        count = len(grid(earlier[init].stage) if isinstance(init, str) else init.members)
        fit.check_members(count, stage, f"{path}.init_from")
    example = jax.ShapeDtypeStruct((1, *dataset.input_shape), "float32")
    directions = outputs.directions(stage, example, f"{path}.objective")
    own = outputs.student(net, found, example, taps, directions, f"{path}.model")
    before = {name: (job.net, len(grid(job.stage))) for name, job in earlier.items()}
    taught = outputs.teachers(stage, net, teachers, before, dataset, directions, path)
    given = stage, own, taught, dataset, len(positions), f"{path}.objective"
    splits = check_objective(*given) and found.splits
    count = sum(_count(teacher, earlier) for teacher in teachers)
    if count:
        mixing_matrix(grid(stage), stage.mixing, count, np.zeros(count), path)
    members = len(grid(stage))
    layout = parallel.layout(spec.execution, members, stage.batch, path, splits)
    if spec.dataset.resident:
        fit.check_resident(dataset, len(positions), layout)
    if count and stage.teacher_logits != "live":
        fit.check_logits(stage, (len(positions), count, dataset.classes), layout, path)
    model = plain(net)
    if stage.model.net is not None or stage.model.name not in nets.NETS:
        model |= nets.identified(net, found, f"{path}.model")
    terms = identity.of_terms(*given)
    facts = identity.of_stage(
        stage, model, terms, teachers, init, {n: j.identity for n, j in earlier.items()}
    )
    facts["dataset"] = identity.of_data(spec, dataset)
    directory = workdir / stage.name
    return Job(
        stage=stage,
        path=path,
        directory=directory,
        status=checkpoint.prepare(directory, facts),
        identity=facts,
        net=net,
        variables=found.variables,
        kind=found.kind,
        splits=splits,
        start=found.start,
        positions=positions,
        labels=labels,
        layout=layout,
        teachers=teachers,
        taught=taught,
        init_from=init,
    )


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


def _starts(
    teacher: str | Teacher, earlier: dict[str, Job]
) -> list[tuple[str, str | None, list[dict[str, Any]]]]:
    """The stages that a teacher comes from, how their nets are made of a seed, and their members;
    without those that start from another stage."""
    if isinstance(teacher, str):
        job = earlier[teacher]
        return [(teacher, job.start, grid(job.stage))] * (not job.stage.init_from)
    own = [stage for stage in teacher.stages if not stage.spec.get("init_from")]
    return [(stage.name, stage.meta.get("start"), stage.members) for stage in own]


def _count(teacher: str | Teacher, earlier: dict[str, Job]) -> int:
    return len(grid(earlier[teacher].stage)) if isinstance(teacher, str) else teacher.count


def _teacher(
    reference: str | Teacher,
    earlier: dict[str, Job],
    known: Known,
    dataset: Dataset,
    chosen: ClassMap,
    path: str,
) -> str | Teacher:
    """An earlier stage's name as it is; a directory as a teacher, once a run."""
    given: Any = reference
    if isinstance(reference, str):
        given = _resolve(reference, earlier, known, path)
        if isinstance(given, str):
            return given
        fit.check_fit(given, dataset, path, reference, as_teacher=True)
    made = lambda: _fitted(as_teacher(given, path), dataset, chosen, path)
    return known.teacher((given, chosen), made)


def _fitted(teacher: Teacher, dataset: Dataset, chosen: ClassMap, path: str) -> Teacher:
    """A teacher with the classes of the data, if it fits them."""
    for stage in teacher.stages:
        fit.check_fit(stage, dataset, path, stage.where, as_teacher=True)
    fitted = class_map.matched(teacher, dataset.class_names, chosen, path)
    if fitted.sizes:
        fit.check_sizes(fitted, dataset, path)
        fit.check_inputs(fitted, dataset, path)
        fit.check_agreement(fitted, dataset, path)
    elif fitted.scope == "batch" and not fitted.stages:
        fitted = fit.traced(fitted, dataset, path)
        fit.check_unscaled(teacher, dataset, path)
    return fitted


def _resolve(
    reference: str | Stage, earlier: dict[str, Job], known: Known, path: str
) -> str | Stage:
    """The name of an earlier stage, or a stage that is finished."""
    if isinstance(reference, str) and reference in earlier:
        return reference
    try:
        return known.stage(reference)
    except InputError as error:
        raise InputError(f"{path} is {reference!r}: {error}") from error
