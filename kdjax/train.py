"""One stage, from its job to its finished directory: a loop over chunks."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kdjax import evaluation, member, parallel, population
from kdjax.chunks import chunks
from kdjax.config.spec import ExperimentSpec, grid, plain
from kdjax.data.dataset import Dataset
from kdjax.evaluation import Exam
from kdjax.host import checkpoint, versions
from kdjax.losses.logits import LOSSES
from kdjax.member import State
from kdjax.prepare import Job
from kdjax.rules import Diverged
from kdjax.setup import Setup, describe, set_up
from kdjax.stage import open_stage

LISTED = 5  # members whose losses a message names


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
            del host  # Orbax has a copy, and the next chunk needs the memory
            display.update(row)
            _stop_if_all_bad(job, np.array(row["bad"]), row)
            end_if_asked()
    finals = {
        name: evaluation.evaluate(evaluate, state, hparams, split, layout)
        for name, split in exam.splits.items()
    }
    results = _results(setup, state, finals, clock())
    _stop_if_all_bad(job, np.array(results["diverged"]), row)
    checkpoint.finish(job.directory, results)


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
        "class_names": list(dataset.class_names),
        "input_dtype": dataset.input_dtype,
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
