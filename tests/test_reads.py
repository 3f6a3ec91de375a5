"""A number that nothing in a stage reads is refused: all fields, in all kinds of stage.

What a stage reads is found by itself: from the traced programs of its training and its evaluation,
less all that no result depends on, and from the examples that it trains on.
"""

import itertools

import jax
import numpy as np
import pytest
from digits import UNIT, arrays, recipe_of
from jax.interpreters import partial_eval

from kdjax import member, population
from kdjax.config import parse
from kdjax.config.spec import StageSpec, grid
from kdjax.data import numbered, order
from kdjax.data.subset import subset
from kdjax.losses import Term
from kdjax.member import Batch, Hparams, Shards
from kdjax.mixing import mixing_matrix, peers_matrix
from kdjax.nets.net import Outputs
from kdjax.optim import OPTIMIZERS
from kdjax.rules import InputError
from kdjax.teachers import Teacher, ema, peers
from kdjax.views import view

K = 3  # teachers of the stage "teachers"
FLAT = Term(
    lambda c: c.hparams["strength"] * (c.student.logits**2).sum(axis=1),
    hparams={"strength": 0.1},
    name="flat",
)
OBJECTIVES = {
    "labels": {"cross_entropy": 1.0},
    "smooth labels": {"cross_entropy": dict(weight=0.5, label_smoothing=0.1)},
    "soft targets": {"kl_divergence": 1.0},
    "entropy": {"soft_cross_entropy": 1.0},
    "logits": {"logit_matching": 1.0},
    "both": {"kl_divergence": 1.0, "cross_entropy": 0.5},
    "own temperature": {"kl_divergence": dict(weight=1.0, temperature=3.0), "cross_entropy": 1.0},
    "own term": {FLAT: 1.0, "cross_entropy": 1.0},
}
TEACHERS: dict[str, str | Teacher] = {
    "none": "",
    "stage": "teachers",
    "peers": peers(),
    "average": ema(0.9),
}
TAUGHT = ("soft targets", "entropy", "logits", "both", "own temperature")
KINDS = [
    (objective, teacher)
    for objective, teacher in itertools.product(OBJECTIVES, TEACHERS)
    if teacher
    in {True: ("stage", "peers", "average"), False: ("none", "stage")}[objective in TAUGHT]
]
# Another value than the default of every field, and of every number that may be an axis.
FIELDS = {
    "temperature": 2.0,
    "ensemble_size": 2,
    "mean": "geometric",
    "mixing": "best",
    "order": "own",
    "steps": 7,
    "batch": 30,
    "optimizer.learning_rate": 0.5,
    "optimizer.weight_decay": 0.5,
    "optimizer.momentum": 0.5,
    "optimizer.schedule": "linear",
    "optimizer.warmup_steps": 2,
    "optimizer.clip_norm": 1.0,
    "optimizer.max_squared_norm": 1.0,
    "subset.classes": (0, 1),
    "subset.without": (3,),
    "subset.size": 50,
    "subset.labelled": 50,
    "subset.seed": 1,
    "augment.shift": 1,
    "augment.flip": True,
}
AXES = {
    "temperature": (1.0, 2.0),
    "ensemble_size": (1, 2),
    "learning_rate": (0.1, 0.2),
    "weight_decay": (0.1, 0.2),
    "momentum": (0.1, 0.2),
    "cross_entropy.weight": (1.0, 2.0),
    "cross_entropy.label_smoothing": (0.1, 0.2),
    "kl_divergence.weight": (1.0, 2.0),
    "kl_divergence.temperature": (1.0, 2.0),
    "soft_cross_entropy.temperature": (1.0, 2.0),
    "logit_matching.weight": (1.0, 2.0),
    "flat.strength": (1.0, 2.0),
    "seed": (3, 4),
}
# Fields of other kinds: "chunk", "init_from" and "teacher_logits" change how or where results are
# found; `plan`, `devices` and the like are of the execution, which changes none.


def a_stage(objective: str, teacher: str, optimizer: str = "adamw", **fields) -> StageSpec:
    """A stage of this kind; `fields` by their paths, an axis as "members.NAME"."""
    taught = TEACHERS[teacher]
    made = {
        "model": dict(name="mlp", hidden=(4,)),
        "objective": OBJECTIVES[objective],
        "teacher": taught if isinstance(taught, str) else (taught,),
        "optimizer": dict(name=optimizer),
        "members": dict(seed=2),
        "order": "shared",  # which peers need
        "batch": 20,
        "steps": 6,
    }
    for path, value in fields.items():
        *places, name = path.split(".")
        inner = made
        for place in places:
            inner = inner.setdefault(place, {})
        inner[name] = value
    teachers = {"members": dict(seed=K), "model": dict(name="mlp", hidden=(5,))}
    return parse({"stages": {"teachers": teachers, "student": made}}).stages[-1]


def results(stage: StageSpec) -> list:
    """All that the results of a stage depend on."""
    program, used = programs(stage)
    numbers = population.hparams(grid(stage), mixing(stage))
    images, labels = arrays()
    positions, labels = subset(labels, numbered(10), stage.subset, "student")
    seeds = (0,) if stage.order == "shared" else [m["seed"] for m in grid(stage)]
    index = [order(seed, len(labels), stage.batch, 0, stage.steps) for seed in seeds]
    shown = lambda x, i, k: view(x, i, k, stage.augment, UNIT)
    views = jax.make_jaxpr(shown)(images[:1], np.arange(1), jax.random.key(0))
    # Labels are results' business only where a term reads them.
    read = [labels.tolist()] if any("labels" in p.term.needs for p in stage.objective) else []
    return [
        program,
        {name: numbers[name].tolist() for name in used},
        np.array(index).tolist(),
        positions.tolist(),
        str(views),
        *read,
    ]


def mixing(stage: StageSpec) -> np.ndarray:
    [*teachers] = stage.teacher
    if not teachers or teachers == [TEACHERS["average"]]:
        return np.ones((len(grid(stage)), 1))
    if teachers == [TEACHERS["peers"]]:
        return peers_matrix(len(grid(stage)))
    return mixing_matrix(grid(stage), stage.mixing, K, [3, 1, 2], "student")


def programs(stage: StageSpec) -> tuple[str, tuple[str, ...]]:
    """Start, training step and evaluation, as text, and the names of the numbers they use."""
    numbers = population.hparams(grid(stage), mixing(stage))
    key = stage.model, stage.objective, stage.optimizer, stage.steps, stage.mean, stage.teacher
    key += tuple((name, values.shape[1:]) for name, values in numbers.items())
    if key not in TRACED:
        TRACED[key] = _traced(stage, jax.tree.map(lambda x: x[0], numbers))
    return TRACED[key]


TRACED: dict[tuple, tuple[str, tuple[str, ...]]] = {}


def _traced(stage: StageSpec, numbers: Hparams) -> tuple[str, tuple[str, ...]]:
    [*teachers] = stage.teacher
    average = 0.9 if teachers == [TEACHERS["average"]] else None
    recipe = recipe_of(stage, average=average)
    image = jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)
    state = jax.eval_shape(lambda h, x: member.init(recipe, h, x), numbers, image)
    size = 3
    batch = Batch(
        jax.ShapeDtypeStruct((size, 8, 8, 1), np.float32), jax.ShapeDtypeStruct((size,), np.int32)
    )
    logits = jax.ShapeDtypeStruct((len(numbers["mixing"]), size, 10), np.float32)
    # Averages have no logits to be compared with before the stage is trained.
    compared = logits if teachers and average is None else None
    logits = logits if teachers else None

    def every(hparams, state, batch, logits, compared):
        teacher = None if logits is None else Outputs(logits, {})
        begun = member.init(recipe, hparams, batch.inputs[:1])
        trained = member.train_step(recipe, Shards(), state, hparams, batch, teacher)
        return begun, trained, member.eval_step(recipe, state, hparams, batch, compared)

    program = jax.make_jaxpr(every)(numbers, state, batch, logits, compared).jaxpr
    program, used = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    leaves = [name[0].key for name, _ in jax.tree_util.tree_leaves_with_path(numbers)]
    return str(program), tuple(n for n, u in zip(leaves, used, strict=False) if u)


def reads_or_refuses(name: str, kind: tuple, fields: dict) -> bool:
    """Whether it was read; that it was neither is the failure of a test."""
    try:
        other = a_stage(*kind, **fields)
    except InputError as error:
        assert name in str(error) and "\n" not in str(error)
        return False
    if results(other) == results(a_stage(*kind)):
        pytest.fail(f"{name} changes nothing", pytrace=False)
    return True


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.slow
def test_a_field_changes_a_result_or_is_refused(kind):
    read = {n: reads_or_refuses(n, kind, {n: value}) for n, value in FIELDS.items()}
    always = {"order", "steps", "batch", "subset.size", "subset.classes", "augment.shift"}
    always |= {"optimizer.learning_rate", "optimizer.weight_decay", "optimizer.schedule"}
    assert all(read[name] for name in always - {"order"})
    assert read["order"] == (kind[1] != "peers")
    assert not read["optimizer.momentum"] and not read["subset.seed"]
    assert read["temperature"] == (kind[0] in ("soft targets", "entropy", "both"))
    assert read["subset.labelled"] == (kind[0] not in ("soft targets", "entropy", "logits"))


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_an_axis_makes_members_differ_or_is_refused(kind):
    for name, values in AXES.items():
        if not reads_or_refuses(name.rpartition(".")[2], kind, {f"members.{name}": values}):
            continue
        stage = a_stage(*kind, **{f"members.{name}": values})
        _, used = programs(stage)
        numbers = population.hparams(grid(stage), mixing(stage))
        first, last = ([numbers[n][m].tolist() for n in used] for m in (0, -1))
        apart = [n for n, a, b in zip(used, first, last, strict=True) if a != b]
        assert {*apart} - {"seed"} or name == "seed", name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_numbers_of_an_optimizer_change_a_result_or_are_refused(optimizer):
    kind = ("labels", "none", optimizer)
    names = [name for name in FIELDS if name.startswith("optimizer.")]
    read = {n: reads_or_refuses(n, kind, {n: FIELDS[n]}) for n in names}
    assert read.pop("optimizer.momentum") == (optimizer != "adamw") and all(read.values())


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({"subset.size": 50, "subset.seed": 1}, True),
        ({"subset.labelled": 50, "subset.seed": 1}, True),
        ({"subset.seed": 1}, False),
    ],
)
def test_the_seed_of_a_subset_is_read_where_there_is_a_choice(fields, read):
    kind = ("both", "stage")
    if not read:
        assert not reads_or_refuses("subset.seed", kind, fields)
        return
    other = results(a_stage(*kind, **{k: v for k, v in fields.items() if k != "subset.seed"}))
    assert results(a_stage(*kind, **fields)) != other


def test_every_number_that_a_stage_declares_is_in_its_program():
    for kind in KINDS:
        stage = a_stage(*kind)
        _, used = programs(stage)
        declared = {*population.hparams(grid(stage), mixing(stage))} - {"mixing"}
        assert declared - {*used} <= {"ensemble_size"}, kind  # of which the mixture is made


@pytest.mark.parametrize("teacher", ["peers", "average"])
def test_a_teacher_of_the_stage_itself_that_no_term_reads_is_refused(teacher):
    with pytest.raises(InputError, match=r"teacher is \('.*',\), which nothing .* has a teacher;"):
        a_stage("labels", teacher)
