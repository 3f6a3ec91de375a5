"""One stage, from its job to its finished directory: a loop over chunks."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from kdjax import checkpoint, cost, evaluation, member, parallel, population, processes, versions
from kdjax.checks import Diverged, InputError
from kdjax.data import Dataset, fetch
from kdjax.evaluation import Exam
from kdjax.feed import Chunk, feed
from kdjax.losses import LOSSES
from kdjax.member import Hparams, Recipe, State
from kdjax.models import MODELS
from kdjax.population import Examples, Plan
from kdjax.prepare import Job
from kdjax.spec import ExperimentSpec, grid, plain
from kdjax.stage import build_model, open_stage
from kdjax.teachers import mixing_matrix

TAUGHT_BYTES = 2**28  # most that the logits of live teachers may take in one chunk
READ = 10_000  # examples read at a time for the teachers' cached logits
LISTED = 5  # members whose losses a message names


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


def train(
    job: Job,
    spec: ExperimentSpec,
    dataset: Dataset,
    exam: Exam,
    say: Callable[[str], None],
    track: Callable[[Job, int], Any],
    end_if_asked: Callable[[], None],
) -> None:
    """Trains a stage from its last checkpoint, or from the start, and finishes its directory.

    Args:
      exam: the evaluated splits as the stage's teachers see them.
      say: takes the line about the stage that a user reads.
      track: (job, steps done) -> a display with `update(row)` and `close()`.
      end_if_asked: called before the first chunk and after each; what it raises ends the stage.

    Raises:
      Diverged: every member has; what was saved stays.
    """
    began = time.perf_counter()
    setup = set_up(job, spec, dataset, exam)
    layout = job.layout
    say(describe(setup))
    checkpoint.start(job.directory, job.identity)
    evaluate = evaluation.program(setup.recipe, setup.plan.members, dataset, layout)
    with contextlib.ExitStack() as opened:
        checkpoints = opened.enter_context(checkpoint.Checkpoints(job.directory))
        setup, state, row = _begin(setup, checkpoints)
        hparams = parallel.split_members(setup.hparams, layout)
        done, before = row["step"], row["seconds"]
        _stop_if_all_bad(job, parallel.join_members(state.bad, layout), row)
        clock = lambda: before + time.perf_counter() - began
        display = opened.enter_context(contextlib.closing(track(job, done)))
        end_if_asked()
        left = chunks(setup, state, hparams, done, spec.dataset.resident)
        for step, state, loss in opened.enter_context(contextlib.closing(left)):
            numbers = evaluation.evaluate(
                evaluate, state, hparams, exam.splits["validation"], layout
            )
            host = parallel.join_members(state, layout)
            row = {
                "step": step,
                "seconds": clock(),
                "loss": loss.tolist(),
                "bad": host.bad.tolist(),
                "validation": _lists(numbers),
            }
            checkpoint.append_metrics(job.directory, row)
            checkpoints.save(step, *items(setup, host, row))
            display.update(row)
            _stop_if_all_bad(job, host.bad, row)
            end_if_asked()
    finals = {
        name: evaluation.evaluate(evaluate, state, hparams, split, layout)
        for name, split in exam.splits.items()
    }
    results = _results(setup, state, finals, clock())
    _stop_if_all_bad(job, np.array(results["diverged"]), row)
    checkpoint.finish(job.directory, results)


def set_up(job: Job, spec: ExperimentSpec, dataset: Dataset, exam: Exam) -> Setup:
    """Who learns from whom, by which plan."""
    stage, teachers = job.stage, exam.teachers
    mixing = np.ones((len(grid(stage)), 1))
    if teachers.count:
        validation = exam.splits["validation"]
        wrong = validation.teacher_logits.argmax(axis=2) != validation.labels
        mixing = mixing_matrix(stage, teachers.count, wrong.sum(axis=1), job.path)
        mixing = processes.of_first(mixing)  # "best" may be another on another machine
    recipe = Recipe(build_model(stage.model, dataset.classes), stage)
    hparams = population.hparams(grid(stage), mixing)
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
            MODELS[stage.model.name].kind,
            state_bytes // len(grid(stage)),
        ),
        exam=exam,
        live=LOSSES[stage.loss].teacher and stage.teacher_logits == "live",
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


def _stop_if_all_bad(job: Job, bad: np.ndarray, row: dict[str, Any]) -> None:
    if bad.all():
        losses = ["not finite" if v is None or v != v else f"{v:.3g}" for v in row["loss"]]
        more = ", ..." * (len(losses) > LISTED)
        told = f" (losses: {', '.join(losses[:LISTED])}{more})" * bool(losses)
        soft = "temperature" in LOSSES[job.stage.loss].hparams
        raise Diverged(
            f"{job.path}: all {len(bad)} members have diverged by step {row['step']}{told}; delete "
            f"{job.directory} and try a smaller learning_rate{' or temperature' * soft}, "
            "warmup_steps or clip_norm"
        )


def _begin(
    setup: Setup, checkpoints: checkpoint.Checkpoints
) -> tuple[Setup, State, dict[str, Any]]:
    """The state to go on from, with the teachers that each member began with, and the row of
    metrics that tells of the steps done."""
    job, layout = setup.job, setup.job.layout
    example = evaluation.example(setup.dataset)
    one = lambda h: member.init(setup.recipe, h, example)
    init = parallel.pmap(population.over_members(one, setup.plan.members, (0,)), layout)
    state = init(parallel.split_members(setup.hparams, layout))
    step = checkpoints.latest()
    checkpoint.truncate_metrics(job.directory, step or 0)
    if step is not None:
        host = parallel.join_members(state, layout)
        variables, rest, hparams, meta = checkpoints.restore(step, _training(host))
        host = host.replace(**variables, **rest)
        chosen = setup.hparams.replace(mixing=hparams["mixing"])
        setup = dataclasses.replace(setup, hparams=chosen)
        return setup, parallel.split_members(host, layout), meta
    if job.init_from is not None:
        host = parallel.join_members(state, layout)
        members = len(host.bad)
        source = open_stage(job.init_from)
        given = jax.tree.map(
            lambda x: np.broadcast_to(x, (members, *x.shape[1:])),
            source.variables | {"bad": np.array(source.diverged)},
        )
        state = parallel.split_members(host.replace(**given), layout)
    return setup, state, {"step": 0, "seconds": 0.0, "loss": []}


def chunks(
    setup: Setup, state: State, hparams: Hparams, done: int, resident: bool
) -> Iterator[tuple[int, State, np.ndarray]]:
    """Runs the chunks that are left: the step after each, the state, and the mean loss
    [M] of the steps where it is finite."""
    job, layout, teachers = setup.job, setup.job.layout, setup.exam.teachers
    logits = None
    if LOSSES[job.stage.loss].teacher and not setup.live:
        logits = _teacher_logits(setup)
    program = population.train_chunk(
        setup.recipe,
        setup.plan,
        parallel.shards(layout),
        setup.dataset.preprocessing,
        teachers.teach if setup.live else None,
    )
    program = parallel.pmap(program, layout, donate=(0,))
    variables = parallel.replicate(teachers.variables, layout) if setup.live else ()
    planned = _plan_chunks(setup, done)
    with contextlib.closing(feed(job, setup.dataset, resident, logits, planned)) as fed:
        coming = next(fed, None)
        for start, steps in planned:
            data, examples = coming
            losses = []
            for part in [examples] if setup.plan.scan else _single_steps(examples, job.stage.order):
                state, loss = program(state, hparams, data, variables, part)
                losses.append(loss)
            coming = next(fed, None)  # goes to the devices while they compute
            losses = [parallel.join_members(loss, layout) for loss in losses]
            finite = np.ma.masked_invalid(np.concatenate(losses, axis=1))
            yield start + steps, state, finite.mean(axis=1, dtype=np.float64).filled(np.nan)


def _plan_chunks(setup: Setup, done: int) -> list[Chunk]:
    """(first step, number of steps) of each chunk after `done`."""
    stage, size = setup.job.stage, setup.job.stage.chunk
    if setup.live:
        forwards = len(grid(stage)) if stage.order == "own" else 1
        numbers = forwards * setup.exam.teachers.count * stage.batch * setup.dataset.classes
        size = max(1, min(size, TAUGHT_BYTES // (4 * numbers)))
    return [(s, min(size, stage.steps - s)) for s in range(done, stage.steps, size)]


def _single_steps(examples: Examples, order: str) -> Iterator[Examples]:
    """The steps [D, S, ...] (own order: [D, M/Dm, S, ...]) one by one."""
    axis = 2 if order == "own" else 1
    for s in range(examples.step.shape[axis]):
        yield jax.tree.map(lambda x, s=s: np.take(x, [s], axis=axis), examples)


def _teacher_logits(setup: Setup) -> np.ndarray:
    """Raw logits [N, K, C] of the teachers on the stage's examples, as they are stored; float16,
    which takes half the memory, where the stage says so."""
    split, positions = setup.dataset.splits["train"], setup.job.positions
    dtype = np.float16 if setup.job.stage.teacher_logits == "cached_float16" else np.float32
    logits = np.empty((len(positions), setup.exam.teachers.count, setup.dataset.classes), dtype)
    for i in range(0, len(positions), READ):
        part = setup.exam.teachers.predict(fetch(split, positions[i : i + READ]))
        if abs(part).max() > np.finfo(dtype).max:
            raise InputError(
                f"{setup.job.path}.teacher_logits is 'cached_float16', which holds numbers up to "
                f"65504, but the teachers' reach {abs(part).max():.0f}; it must be 'cached'"
            )
        logits[i : i + READ] = np.moveaxis(part, 0, 1)
    return logits


def _training(host: State) -> dict[str, Any]:
    """What only the training of a stage needs, beside its variables."""
    return {"step": host.step, "opt_state": host.opt_state, "bad": host.bad}


def items(setup: Setup, host: State, row: dict[str, Any]) -> tuple[Any, ...]:
    """A checkpoint's items: variables, opt, hparams, meta."""
    variables = {"params": host.params, "model_state": host.model_state}
    job, dataset = setup.job, setup.dataset
    meta = {
        "stage": plain(job.stage),
        "members": grid(job.stage),
        "model": plain(job.stage.model),
        "classes": dataset.classes,
        "input_shape": list(dataset.input_shape),
        "preprocessing": plain(dataset.preprocessing),
        "dataset": job.identity["dataset"],
        "teachers": [str(path) for path in job.teachers],
        "versions": versions.versions(),
        **row,
    }
    return variables, _training(host), vars(setup.hparams), meta


def _results(setup: Setup, state: State, finals: dict, seconds: float) -> dict[str, Any]:
    """What DONE holds."""
    host = parallel.join_members(state, setup.job.layout)
    variables = {"params": host.params, "model_state": host.model_state}
    return {
        "metrics": {name: _lists(numbers) for name, numbers in finals.items()},
        "diverged": (host.bad | ~np.isfinite([m["nll"] for m in finals.values()]).all(0)).tolist(),
        "seconds": seconds,
        "layout": vars(setup.job.layout),
        **evaluation.serving_cost(setup.recipe.model, variables, evaluation.example(setup.dataset)),
        "teacher": setup.exam.ensemble,
        "environment": versions.environment(),
    }


def _lists(numbers: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in numbers.items()}
