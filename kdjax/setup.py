"""What a stage's loop is given: who teaches whom, by which plan, in calls of which size."""

from dataclasses import dataclass

import jax
import numpy as np

from kdjax import evaluation, member, optim, population
from kdjax.config.spec import ANNEALINGS, ExperimentSpec, grid, weighs_labels
from kdjax.data import Dataset, fetch, left_out, listed
from kdjax.evaluation import Evaluated
from kdjax.feed import Chunk
from kdjax.host import processes
from kdjax.member import Hparams, Recipe, State
from kdjax.mixing import mixing_matrix, peers_matrix
from kdjax.nets import cost, export
from kdjax.nets.net import Outputs, PyTree
from kdjax.population import Plan
from kdjax.prepare import Job
from kdjax.rules import InputError
from kdjax.tables import wrapped
from kdjax.teachers import Asked, Teacher

TAUGHT_BYTES = 2**28  # most that the outputs of live teachers may take in one call
READ = 10_000  # examples read at a time for the teachers' cached logits


@dataclass(frozen=True)
class Setup:
    """All that a stage's loop uses and does not change.

    Attributes:
      hparams: [M], on the host.
      live: the teachers that run on every batch, or None.
      peers: whether the members teach each other.
      example: one example [1, ...] as the net sees it, for its shape.
      teacher_example: the teachers' outputs of it [K, 1, ...], for their shapes, or None.
      one: the shapes of one member's state.
      program: the net's evaluation, exported.
    """

    job: Job
    dataset: Dataset
    recipe: Recipe
    hparams: Hparams
    plan: Plan
    evaluated: Evaluated
    live: Teacher | None
    peers: bool
    example: np.ndarray
    teacher_example: Outputs | None
    one: State
    program: bytes


def _weights(trained: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
    """Of a net's and its terms' parameters: only the net's weights decay and have a limit."""
    params, aux = trained
    return optim.matrices(params), jax.tree.map(lambda _: False, aux)


def set_up(job: Job, spec: ExperimentSpec, dataset: Dataset, evaluated: Evaluated) -> Setup:
    """Who learns from whom, by which plan."""
    stage, teacher = job.stage, evaluated.teacher
    members = grid(stage)
    scope = "" if teacher is None else teacher.scope
    recipe = Recipe(
        net=job.net,
        objective={part.name: part.term for part in stage.objective},
        optimizer=lambda h: optim.build(stage.optimizer, stage.steps, h, _weights),
        mean=stage.mean,
        progress=lambda step: ANNEALINGS[stage.annealing](step / stage.steps),
        average=None if teacher is None else teacher.decay,
        examples=len(job.positions),
    )
    hparams = population.hparams(members, _mixing(job, evaluated))
    asked_live = stage.taught and scope == "batch" and stage.teacher_logits == "live"
    live = teacher if asked_live else None
    example = evaluation.example(dataset)
    count = teacher.count if teacher is not None else 0  # those that did not diverge
    zeros = lambda x: np.zeros((count or len(x), *x.shape[1:]), x.dtype)
    outputs = jax.tree.map(zeros, job.taught)
    one = jax.eval_shape(
        lambda h: member.init(recipe, h, example, outputs),
        jax.tree.map(lambda x: x[0], hparams),
    )
    state_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(one))
    kinds = job.kind, "dense" if live is None else live.kind
    kind = "convolutional" if "convolutional" in kinds else "dense"
    plan = population.choose_plan(spec.execution.plan, jax.default_backend(), kind, state_bytes)
    if scope == "population" and plan.members == "map":
        plan = Plan("vmap", plan.scan)  # members that teach each other take each step together
    return Setup(
        job=job,
        dataset=dataset,
        recipe=recipe,
        hparams=hparams,
        plan=plan,
        evaluated=evaluated,
        live=live,
        peers=scope == "population",
        example=example,
        teacher_example=outputs,
        one=one,
        program=export.export(job.net, one.variables, dataset.input_shape, f"{job.path}.model"),
    )


def _mixing(job: Job, evaluated: Evaluated) -> np.ndarray:
    """[M, K]: how each member mixes its teachers."""
    teacher, members = evaluated.teacher, grid(job.stage)
    if teacher is not None and teacher.scope == "population":
        return peers_matrix(len(members))
    if teacher is None or not teacher.count:
        return np.ones((len(members), 1))
    validation = evaluated.splits["validation"]
    wrong = np.zeros(teacher.count)
    if validation.teacher_logits is not None:
        wrong = (validation.teacher_logits.argmax(axis=2) != validation.labels).sum(axis=1)
    elif job.stage.mixing == "best":
        raise InputError(
            f"{job.path}.mixing is 'best', but the teacher {teacher.name!r} has no logits of the "
            "validation split, by which it is chosen; it must be 'all'"
        )
    mixing = mixing_matrix(members, job.stage.mixing, teacher.count, wrong, job.path)
    return processes.broadcast(mixing)  # "best" may be another on another machine


def describe(setup: Setup) -> str:
    """One line for a user: what is trained, on what, taught by whom, how long."""
    job, stage = setup.job, setup.job.stage
    examples, labelled, members = len(job.labels), int((job.labels >= 0).sum()), len(grid(stage))
    axes = ", ".join(f"{len(v)} values of {name}" for name, v in stage.members if name != "seed")
    nets = f"{members} {job.net.name}" + f" ({axes})" * bool(axes)
    names = setup.dataset.class_names
    without = listed([names[c] for c in left_out(stage.subset, names)])
    some = f", {labelled:,} with labels" * (labelled < examples)
    some += f", without {without}" * bool(without)
    whom = ["labels"] * weighs_labels(stage)
    teacher = setup.evaluated.teacher
    if stage.taught and teacher is not None:
        count = f" ({teacher.count})" if teacher.count > 1 else ""
        note = f" ({teacher.note})" * bool(teacher.note)
        whom = [teacher.name + count + note, *whom]
    epochs = f"{float(f'{stage.steps * stage.batch / examples:.3g}'):,g} epochs"
    return wrapped(
        f"{stage.name}: {nets} of {cost.parameters(setup.one.params):,} parameters, {epochs} of "
        f"{examples:,} examples{some}"
        + f", taught by {', '.join(whom)}" * bool(whom)
        + ", each batch on one device" * (not job.splits)
    )


def _forwards(setup: Setup) -> int:
    """How often the live teachers run for each step."""
    return len(grid(setup.job.stage)) if setup.job.stage.order == "own" else 1


def chunks(setup: Setup, done: int) -> list[Chunk]:
    """(first step, number of steps) of each chunk after `done`."""
    stage = setup.job.stage
    return [
        (start, min(stage.chunk, stage.steps - start))
        for start in range(done, stage.steps, stage.chunk)
    ]


def calls(setup: Setup) -> int:
    """The number of steps in one call of the compiled program, at most."""
    stage = setup.job.stage
    if not setup.plan.scan:
        return 1
    if setup.live is None:
        return stage.chunk
    each = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(setup.teacher_example))
    return max(1, min(stage.chunk, TAUGHT_BYTES // (each * stage.batch * _forwards(setup))))


def cached_logits(setup: Setup) -> np.ndarray | None:
    """Raw logits [N, K, C] of the teachers on the stage's examples, as they are stored; float16,
    which takes half the memory, where the stage says so. None where the teachers are live."""
    job, teacher, dataset = setup.job, setup.evaluated.teacher, setup.dataset
    if teacher is None or not job.stage.taught or setup.live:
        return None
    if teacher.scope in ("population", "member"):
        return None
    split, positions = dataset.splits["train"], job.positions
    dtype = np.float16 if job.stage.teacher_logits == "cached_float16" else np.float32
    logits = np.empty((len(positions), teacher.count, dataset.classes), dtype)
    for i in range(0, len(positions), READ):
        here = positions[i : i + READ]
        asked = Asked("train", here, fetch(split, here), dataset.preprocessing)
        part = evaluation.checked_logits(teacher, asked)
        assert part is not None
        largest = abs(part[np.isfinite(part)]).max(initial=0)  # a masked class is -inf in both
        if largest > np.finfo(dtype).max:
            raise InputError(
                f"{job.path}.teacher_logits is 'cached_float16', which holds numbers up to "
                f"65504, but the teachers' reach {largest:.0f}; it must be 'cached'"
            )
        logits[i : i + READ] = np.moveaxis(part, 0, 1)
    return logits
