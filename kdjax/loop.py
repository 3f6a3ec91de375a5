"""One stage, from its job to its finished directory: one loop over chunks of steps."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from kdjax import evaluation, member, parallel, population
from kdjax.config.spec import ExperimentSpec, grid, plain
from kdjax.data import Dataset
from kdjax.evaluation import Evaluated, EvaluatedSplit, Placed
from kdjax.feed import feed
from kdjax.host import checkpoint, processes, versions
from kdjax.member import State
from kdjax.nets.net import Outputs, PyTree
from kdjax.parallel import Layout
from kdjax.prepare import Job
from kdjax.rules import Diverged, Preempted
from kdjax.setup import Setup, cached_logits, calls, chunks, describe, set_up
from kdjax.stage import Stage
from kdjax.teachers import Teacher

SAVE_SECONDS = 10.0  # least time between two checkpoints
LISTED = 5  # members whose losses a message names

Row = dict[str, Any]  # a line of metrics.jsonl


def train(
    job: Job,
    spec: ExperimentSpec,
    dataset: Dataset,
    evaluated: Evaluated,
    source: Stage | None,
    say: Callable[[str], None],
    track: Callable[[Job, int], Any],
    stop: Callable[[], bool],
    on_devices: Callable[[EvaluatedSplit, Layout], Iterable[Placed]] | None = None,
) -> None:
    """Trains a stage from its last checkpoint, or from the start, and finishes its directory.

    Args:
      evaluated: the evaluated splits as the stage's teachers see them.
      source: the stage whose variables this one starts from, or None.
      say: takes the line about the stage that a user reads.
      track: (job, steps done) -> a display with `update(row)` and `close()`.
      stop: asked before the first chunk and after each whether to save and to end here.
      on_devices: as `evaluation.on_devices` makes it, for the stages of a run; None: for this one.

    Raises:
      Diverged: every member has; what was saved stays.
      Preempted: `stop` said so.
    """
    began = time.perf_counter()
    setup = set_up(job, spec, dataset, evaluated)
    layout, steps, resident = job.layout, job.stage.steps, spec.dataset.resident
    say(describe(setup))
    checkpoint.start(job.directory, job.identity)
    checkpoint.write_forward(job.directory, setup.program)

    teacher = setup.live
    step_all = population.train_chunk(
        setup.recipe,
        setup.plan,
        parallel.shards(layout),
        dataset.preprocessing,
        job.stage.augment,
        job.stage.order,
        None if teacher is None else functools.partial(_ask, teacher, setup.recipe.teacher_taps),
        peers=setup.peers,
    )
    step_all = parallel.pmap(step_all, layout, donate=(0,))
    evaluate = evaluation.program(setup.recipe, setup.plan.members, dataset, layout)
    splits = (on_devices or evaluation.on_devices()) if resident else evaluation.batches

    with contextlib.ExitStack() as opened:
        checkpoints = opened.enter_context(checkpoint.Checkpoints(job.directory))
        setup, state, row = _begin(setup, checkpoints, source)
        hparams = parallel.place_members(setup.hparams, layout)
        teachers = () if teacher is None else parallel.replicate(teacher.variables, layout)
        done, before = row["step"], row["seconds"]
        clock = lambda: before + time.perf_counter() - began
        display = opened.enter_context(contextlib.closing(track(job, done)))
        fed = feed(job, dataset, resident, cached_logits(setup), chunks(setup, done), calls(setup))
        fed = opened.enter_context(contextlib.closing(fed))

        def sums_of(split: str) -> evaluation.Sums:
            parts = splits(evaluated.splits[split], layout)
            return [evaluate(state, hparams, batch, logits) for batch, logits in parts]

        def complete(step: int, losses: list[jax.Array], sums: evaluation.Sums) -> Row:
            """The numbers of a chunk, once its programs have ended."""
            bad, numbers = evaluation.finish(sums, layout)
            row = {
                "step": step,
                "seconds": clock(),
                "loss": _mean_loss(losses, layout).tolist(),
                "bad": bad.tolist(),
                "validation": _lists(numbers),
            }
            checkpoint.append_metrics(job.directory, row)
            return row

        def tell(row: Row) -> None:
            display.update(row)
            _stop_if_all_bad(job, np.array(row["bad"]), row)

        _stop_if_all_bad(job, np.array(row["bad"]), row)
        if stop():
            raise Preempted(PREEMPTED)
        saved_at, pending = time.monotonic(), None
        for step, data, parts in fed:
            losses = []
            for examples in parts:
                state, loss = step_all(state, hparams, data, teachers, examples)
                losses.append(loss)
            sums = sums_of("validation")
            if pending:  # of the chunk before, while this one computes
                tell(complete(*pending))
            pending = step, losses, sums
            ending = stop()
            due = step == steps or time.monotonic() - saved_at > SAVE_SECONDS
            if ending or processes.broadcast_int(due):
                row, pending = complete(*pending), None
                checkpoints.save(step, *items(setup, parallel.fetch_members(state, layout), row))
                saved_at = time.monotonic()
                tell(row)
            if ending and step < steps:
                raise Preempted(PREEMPTED)
        measured = {name: sums_of(name) for name in evaluated.splits}
        finals = {name: evaluation.finish(sums, layout) for name, sums in measured.items()}
        results = _results(setup, parallel.fetch_members(state, layout), finals, clock())
    _stop_if_all_bad(job, np.array(results["diverged"]), row)
    checkpoint.finish(job.directory, results)


def _ask(teacher: Teacher, taps: tuple[str, ...], variables: PyTree, inputs: jax.Array) -> Outputs:
    return teacher.apply(variables, inputs, taps)


PREEMPTED = "asked to stop; the same command goes on from the last checkpoint"


def _mean_loss(losses: list[jax.Array], layout: parallel.Layout) -> np.ndarray:
    """[M]: the mean of the losses [D, M/Dm, S] of each call, over the steps where it is finite."""
    found = [parallel.fetch_members(loss, layout) for loss in losses]
    finite = np.ma.masked_invalid(np.concatenate(found, axis=1))
    return finite.mean(axis=1, dtype=np.float64).filled(np.nan)


def _stop_if_all_bad(job: Job, bad: np.ndarray, row: Row) -> None:
    if len(bad) and bad.all():
        losses = ["not finite" if v is None or v != v else f"{v:.3g}" for v in row["loss"]]
        more = ", ..." * (len(losses) > LISTED)
        found = f" (losses: {', '.join(losses[:LISTED])}{more})" * bool(losses)
        raise Diverged(
            f"{job.path}: all {len(bad)} members have diverged by step {row['step']}{found}; "
            + f"delete {job.directory} and " * job.kept
            + "try a smaller learning_rate"
            f"{' or temperature' * job.stage.reads_temperature}, warmup_steps or clip_norm"
        )


def _begin(
    setup: Setup, checkpoints: checkpoint.Checkpoints, source: Stage | None
) -> tuple[Setup, State, Row]:
    """The state to go on from, with the teachers that each member began with, and the row of
    metrics that tells of the steps done."""
    job, layout = setup.job, setup.job.layout
    members = len(setup.hparams["seed"])
    step = checkpoints.latest()
    checkpoint.truncate_metrics(job.directory, step or 0)
    if step is not None:
        shapes = lambda tree: jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), tree
        )
        variables, rest, hparams, meta = checkpoints.restore(step, shapes(_training(setup.one)))
        collections = {name: tree for name, tree in variables.items() if name != "params"}
        fields = {f.name: getattr(setup.one, f.name) for f in dataclasses.fields(setup.one)}
        fields |= rest | {"params": variables["params"], "collections": collections}
        host = State(**fields)
        setup = dataclasses.replace(setup, hparams=setup.hparams | {"mixing": hparams["mixing"]})
        return setup, parallel.place_members(host, layout), meta
    one = lambda h: member.init(setup.recipe, h, setup.example, setup.teacher_example)
    init = parallel.pmap(population.over_members(one, setup.plan.members, (0,)), layout)
    state = init(parallel.place_members(setup.hparams, layout))
    bad = [False] * members
    if source is not None:
        wide = lambda x: np.broadcast_to(x, (members, *np.shape(x)[1:]))
        given = jax.tree.map(wide, dict(source.variables))
        bad = wide(np.array(source.diverged)).tolist()
        average = None if state.average is None else parallel.place_members(given, layout)
        state = dataclasses.replace(
            state,
            average=average,
            params=parallel.place_members(given.pop("params"), layout),
            collections=parallel.place_members(given, layout),
            bad=parallel.place_members(np.array(bad), layout),
        )
    return setup, state, {"step": 0, "seconds": 0.0, "loss": [], "bad": bad}


def _training(state: State) -> dict[str, Any]:
    """What only the training of a stage needs, beside its variables."""
    found = {"step": state.step, "opt_state": state.opt_state, "bad": state.bad}
    found |= {name: getattr(state, name) for name in ("aux", "memory") if getattr(state, name)}
    return found | ({} if state.average is None else {"average": state.average})


def items(setup: Setup, host: State, row: Row) -> tuple[Any, ...]:
    """A checkpoint's items: variables, opt, hparams, meta."""
    job, dataset = setup.job, setup.dataset
    meta = {
        "stage": plain(job.stage),
        "members": grid(job.stage),
        "model": job.net.name,
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        "input_dtype": dataset.input_dtype,
        "input_range": dataset.input_range and list(dataset.input_range),
        "input_shape": list(dataset.input_shape),
        "columns": list(dataset.columns),
        "preprocessing": plain(dataset.preprocessing),
        "dataset": job.identity["dataset"],
        "start": job.start,
        "teachers": [t if isinstance(t, str) else t.name for t in job.teachers],
        "versions": versions.versions(),
        **row,
    }
    return host.variables, _training(host), setup.hparams, meta


def _results(setup: Setup, host: State, finals: dict, seconds: float) -> dict[str, Any]:
    """What DONE holds."""
    bad = next(iter(finals.values()))[0]
    numbers = {name: found for name, (_, found) in finals.items()}
    unknown = np.isnan([found["nll"] for found in numbers.values()]).any(0)
    return {
        "metrics": {name: _lists(found) for name, found in numbers.items()},
        "diverged": (bad | unknown).tolist(),
        "seconds": seconds,
        "layout": vars(setup.job.layout),
        **evaluation.serving_cost(setup.job.net, host.variables, setup.example),
        "teacher": setup.evaluated.ensemble,
        "environment": versions.environment(),
    }


def _lists(numbers: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in numbers.items()}
