"""What a stage's loop is given: who learns from whom, by which plan, at what size."""

from dataclasses import dataclass

import jax
import numpy as np

from kdjax import evaluation, member, population
from kdjax.config.spec import ExperimentSpec, grid
from kdjax.data.dataset import Dataset
from kdjax.evaluation import Exam
from kdjax.host import processes
from kdjax.losses.logits import LOSSES
from kdjax.member import Hparams, Recipe
from kdjax.mixing import mixing_matrix
from kdjax.nets import cost
from kdjax.nets.modules import MODELS
from kdjax.population import Plan
from kdjax.prepare import Job
from kdjax.stage import build_model


@dataclass(frozen=True)
class Setup:
    """All that a stage's loop uses and does not change. `hparams` [M] is on the host."""

    job: Job
    dataset: Dataset
    recipe: Recipe
    hparams: Hparams
    plan: Plan
    exam: Exam
    live: bool  # the teachers run on every batch
    parameters: int  # of one member
    state_bytes: int  # of all members


def set_up(job: Job, spec: ExperimentSpec, dataset: Dataset, exam: Exam) -> Setup:
    """Who learns from whom, by which plan."""
    stage, teachers = job.stage, exam.teachers
    mixing = np.ones((len(grid(stage)), 1))
    if teachers.count:
        validation = exam.splits["validation"]
        wrong = validation.teacher_logits.argmax(axis=2) != validation.labels
        mixing = mixing_matrix(stage, teachers.count, wrong.sum(axis=1), job.path)
        mixing = processes.broadcast(mixing)  # "best" may be another on another machine
    recipe = Recipe(build_model(stage.model, dataset.classes), stage)
    hparams = population.hparams(grid(stage), mixing)
    live = LOSSES[stage.loss].teacher and stage.teacher_logits == "live"
    kinds = {MODELS[stage.model.name].kind}  # of all nets that run in the loop
    kinds |= {MODELS[s.model_spec.name].kind for s in teachers.stages} if live else set()
    one = jax.eval_shape(
        lambda h: member.init(recipe, h, evaluation.example(dataset)),
        jax.tree.map(lambda x: x[0], hparams),
    )
    state_bytes = len(grid(stage)) * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(one))
    return Setup(
        job=job,
        dataset=dataset,
        recipe=recipe,
        hparams=hparams,
        plan=population.choose_plan(
            spec.execution.plan,
            jax.default_backend(),
            "convolutional" if "convolutional" in kinds else "dense",
            state_bytes // len(grid(stage)),
        ),
        exam=exam,
        live=live,
        parameters=cost.parameters(one.params),
        state_bytes=state_bytes,
    )


def describe(setup: Setup) -> str:
    """One line: members and their axes, parameters, bytes, data, devices and plan."""
    job, stage, layout, plan = setup.job, setup.job.stage, setup.job.layout, setup.plan
    labelled = int((job.labels >= 0).sum())
    axes = " x ".join(f"{len(values)} of {name}" for name, values in stage.members)
    parts = [
        f"{len(grid(stage))} x {stage.model.name} ({axes}), {setup.parameters:,} parameters each, "
        f"{setup.state_bytes / 2**20:.1f} MiB of state",
        f"{len(job.labels):,} examples, {labelled:,} labelled, {stage.order} order",
        f"{layout.devices} {jax.default_backend()} devices"
        + f" of {layout.processes} processes" * (layout.processes > 1)
        + f" as {layout.member_shards} member x {layout.data_shards} data shards"
        + f", {layout.copies} idle places" * bool(layout.copies),
        f"plan {plan.members}, {'steps in a scan' if plan.scan else 'a call per step'}",
    ]
    if LOSSES[stage.loss].teacher:
        forwards = len(grid(stage)) if setup.live and stage.order == "own" else 1
        live = f"live, {forwards} forward passes a step" if setup.live else stage.teacher_logits
        parts.append(f"{setup.exam.teachers.count} teachers, {live}")
    return f"{stage.name}: {'; '.join(parts)}"
