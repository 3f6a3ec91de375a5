"""Terms of layers through the doors: refusals, layouts, teachers, and what a term keeps."""

import itertools
from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import a_stage, hparams_of, recipe_of
from stages import refuses

import kdjax
from examples.your_own import mine
from kdjax import loop, member
from kdjax.config import parse
from kdjax.experiment import load
from kdjax.host import memory
from kdjax.losses import TERMS, Context
from kdjax.losses.layers import over_teachers, read
from kdjax.nets.net import Outputs
from kdjax.prepare import prepare
from kdjax.rules import Preempted


class Maps(nn.Module):
    side: int
    channels: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.side**2 * self.channels)(x))
        return x.reshape(len(x), self.side, self.side, self.channels)


class Small(nn.Module):
    """Whose layers are maps and a vector."""

    side: int = 4
    channels: int = 3

    @nn.compact
    def __call__(self, x):
        x = Maps(self.side, self.channels, name="maps")(x.reshape(len(x), -1))
        x = nn.relu(nn.Dense(6, name="vector")(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


FEW = dict(steps=4, batch=20, chunk=2)
MAPS, VECTOR = (dict(weight=0.5, student=n, teacher=n) for n in ("maps", "vector"))
CRD = VECTOR | dict(negatives=8, dimensions=4)
OBJECTIVE = dict(
    fitnet=MAPS,
    attention_transfer=MAPS | dict(weight=50.0),
    nst=MAPS,
    vid=MAPS,
    ickd=MAPS,
    review_kd=dict(student=("maps", "vector"), teacher=("maps", "vector")),
    similarity_preserving=VECTOR | dict(weight=50.0),
    correlation_congruence=VECTOR | dict(weight=50.0),
    rkd_distance=VECTOR | dict(weight=10.0),
    rkd_angle=MAPS | dict(weight=10.0),
    pkt=VECTOR | dict(weight=1000.0),
    crd=CRD,
)
every_term = pytest.mark.parametrize("name", OBJECTIVE)


def stages(objective, side=5, student=None, **fields):
    """Two teachers, and students of other seeds."""
    teachers = dict(model=kdjax.linen(Small(side, 4)), members=dict(seed=2), **FEW)
    own = dict(model=student or kdjax.linen(Small()), objective=objective, teacher="teachers")
    own |= FEW | dict(members=dict(seed=(5, 6))) | fields
    return dict(dataset=mine.digits, stages=dict(teachers=teachers, student=own))


def job_of(objective, **fields):
    """The student's; nothing is computed."""
    spec = parse(stages(objective, **fields))
    return prepare(spec, load(spec), Path("/there is no such place"))[-1]


@every_term
def test_every_term_fits_and_splits_over_devices_and_is_known_by_its_options(name):
    job = job_of({name: OBJECTIVE[name]})
    assert job.splits
    (part,) = job.identity["stage"]["objective"]
    layers = OBJECTIVE[name]["student"]
    assert part["source"] == name and dict(part["options"])["student"] in (layers, list(layers))


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (dict(fitnet=MAPS | dict(student="map")), "calls no layer 'map'"),
        (dict(fitnet=MAPS | dict(teacher="map")), "calls no layer 'map'"),
        (dict(fitnet=1.0), "student is ''; it must be the path of a layer, or a tuple of paths"),
        (dict(nst=MAPS | dict(teacher="vector")), "neuron selectivity needs maps of both"),
        (dict(fitnet=MAPS | dict(student="vector")), "no maps and the teacher's maps of 5 x 5"),
        (dict(fitnet=MAPS | dict(channels="front")), "channels is 'front'; it must be 'first' or"),
        (dict(pkt=VECTOR | dict(channels="last")), "has no field 'channels'"),
        (
            dict(crd=CRD | dict(momentum=1.0)),
            "momentum is 1.0; it must be a number from 0",
        ),
    ],
)
def test_what_cannot_be_read_or_pooled_is_refused_before_any_compute(objective, words):
    with refuses("config.stages.student", words):
        job_of(objective)


def test_a_layer_that_is_not_there_is_named_with_those_that_are():
    with refuses("features can be taken of: ", "maps", "vector"):
        job_of(dict(fitnet=MAPS | dict(student="map")))


def test_channels_that_may_stand_first_are_asked_for():
    first = dict(maps=jnp.zeros((2, 8, 4, 4))), dict(maps=jnp.zeros((3, 2, 8, 4, 4)))
    with refuses("'maps' of the student puts out [8, 4, 4]", "channels must be 'first' or 'last'"):
        read(*first, ("maps", "maps"), None)
    f, g = read(*first, ("maps", "maps"), ("first", "last"))
    assert f.shape == (2, 4, 4, 8) and g.shape == (3, 2, 8, 4, 4)


def test_a_teacher_that_a_member_does_not_hear_is_left_out():
    """As with `mixing`, `ensemble_size` and peers; also where its loss is no number."""
    context = lambda mixing: Context(None, None, None, None, None, {}, mixing=mixing)
    losses = jnp.array([[1.0, 2.0], [3.0, jnp.nan]])
    np.testing.assert_array_equal(over_teachers(context(jnp.array([1.0, 0.0])), losses), [1.0, 2.0])
    np.testing.assert_array_equal(over_teachers(context(jnp.array([0.25, 0.75])), losses)[0], 2.5)
    np.testing.assert_array_equal(over_teachers(context(None), losses)[0], 2.0)


def trained(objective, layout, **fields):
    fields = dict(member_shards=layout[0], data_shards=layout[1]) | dict(devices=np.prod(layout))
    own = dict(execution={k: int(v) for k, v in fields.items()}, quiet=True, **FEW)
    teachers = kdjax.train(kdjax.linen(Small(5, 4)), mine.digits, seeds=2, quiet=True, **FEW)
    stage = kdjax.distill(
        kdjax.linen(Small()), teachers, mine.digits, objective=objective, seeds=(5, 6), **own
    )
    return np.array(stage.report.curves["student"]["loss"]), stage.variables


@pytest.fixture(scope="module")
def on_one_device():
    return trained(OBJECTIVE, (1, 1))


@pytest.mark.long
@pytest.mark.parametrize("layout", [(2, 1), (1, 2), (2, 2)])
def test_terms_are_the_same_under_every_layout_and_serve_none_of_their_own(layout, on_one_device):
    loss, variables = on_one_device
    other_loss, other = trained(OBJECTIVE, layout)
    assert np.isfinite(loss).all()
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
    chex.assert_trees_all_close(other, variables, atol=2e-4)
    names = {"/".join(p.key for p in path) for path, _ in jax.tree.leaves_with_path(variables)}
    layers = ("maps/Dense_0", "vector", "Dense_0")
    assert names == {f"params/{n}/{leaf}" for n in layers for leaf in ("kernel", "bias")}


# What a term keeps from step to step.


def test_the_normalisers_of_the_contrast_are_those_of_the_first_batch():
    term = TERMS["crd"](student="a", teacher="b", negatives=8, dimensions=4)
    random, (count, size, examples) = np.random.default_rng(0), (2, 6, 30)
    outputs = lambda name, *shape: Outputs(
        jnp.zeros((*shape[:-1], 10)), {name: jnp.float32(random.normal(size=shape))}
    )
    student, teacher = outputs("a", size, 5), outputs("b", count, size, 7)
    one = outputs("a", 1, 5), outputs("b", count, 1, 7)
    numbers = {name: jnp.float32(default) for name, (default, _) in term.numbers.items()}

    @jax.jit
    def start():
        return term.aux(jax.random.key(0), *one), term.memory(jax.random.key(1), *one, examples)

    @jax.jit
    def step(aux, memory, index, key):
        context = Context(student, teacher, None, None, None, numbers, aux)
        return term.function(Context(**vars(context) | dict(index=index, key=key, memory=memory)))

    aux, before = start()
    assert before["student"].shape == (count, examples, 4)
    index = jnp.array([3, 9, 27, 0, 1, 2], jnp.int32)
    loss, after = step(aux, before, index, jax.random.key(2))
    _, last = step(aux, after, index + 2, jax.random.key(3))
    assert loss.shape == (size,) and np.isfinite(loss).all()
    assert np.isfinite(after["log_z"]).all() and np.ptp(after["log_z"]) > 0
    np.testing.assert_array_equal(last["log_z"], after["log_z"])
    for bank in ("student", "teacher"):
        moved = np.any(np.asarray(before[bank]) != np.asarray(after[bank]), axis=(0, 2))
        np.testing.assert_array_equal(np.flatnonzero(moved), np.sort(index))
    other, _ = step(aux, after, index, jax.random.key(3))
    assert np.any(other != step(aux, after, index, jax.random.key(4))[0])  # other negatives


def test_a_stage_without_memory_is_saved_as_before():
    spec = a_stage()
    one = jax.tree.map(lambda x: x[0], hparams_of(spec))
    example = np.zeros((1, 8, 8, 1), np.float32)
    state = jax.eval_shape(lambda: member.init(recipe_of(spec), one, example))
    assert loop._training(state).keys() == {"step", "opt_state", "bad"}


def kept(function, **fields):
    """A term of a user's that counts in its memory."""
    start = lambda key, student, teacher, examples: {"seen": jnp.zeros(examples)}
    return kdjax.Term(function, memory=start, name="kept", **fields)


SQUARE = lambda c: jnp.square(c.student.logits).sum(-1)


def counted(gather):
    def function(c):
        every = c.gather(c.index) if gather else c.index
        return SQUARE(c), {"seen": c.memory["seen"].at[every].add(1.0)}

    return kept(function, needs={"index"})


def test_a_memory_keeps_its_form_and_fits():
    with refuses("objective.kept", "it has a memory, and must return a pair"):
        job_of({kept(SQUARE): 1.0, **dict(fitnet=MAPS)})
    with refuses("objective.kept gives a memory of the form", "float32[20]", "float32[900]"):
        job_of({kept(lambda c: (SQUARE(c), {"seen": SQUARE(c)})): 1.0, **dict(fitnet=MAPS)})


def test_a_memory_that_is_too_large_is_refused(monkeypatch):
    check = memory.check
    asked = lambda says, sizes: check(says, [((10**6, *shape), 10**6) for shape, _ in sizes])
    monkeypatch.setattr(memory, "check", lambda s, n: (asked if "keeps" in s else check)(s, n))
    with refuses("objective.kept keeps from step to step", "GiB of memory"):
        job_of({counted(True): 1.0, **dict(fitnet=MAPS)})


def test_a_memory_of_a_part_of_the_batch_is_not_split():
    assert job_of({counted(True): 1.0, **dict(fitnet=MAPS)}).splits
    assert not job_of({counted(False): 1.0, **dict(fitnet=MAPS)}).splits


def test_an_example_that_is_mixed_with_another_has_no_number():
    with refuses("objective.crd reads the number of each example", "mixes two"):
        job_of(dict(crd=CRD), augment=dict(mixup=1.0))


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_contrast_that_was_stopped_goes_on_bit_for_bit(tmp_path, saving):
    config = stages(dict(crd=CRD, cross_entropy=1.0)) | dict(execution=dict(devices=1))
    kdjax.run(config, tmp_path / "whole", quiet=True)
    asked = itertools.count()
    with pytest.raises(Preempted):  # after the two chunks of the teachers and one of the student
        kdjax.run(config, tmp_path / "stopped", quiet=True, stop=lambda: next(asked) >= 4)
    assert not (tmp_path / "stopped" / "student" / "DONE").exists()
    steps = (tmp_path / "stopped" / "student" / "checkpoints").iterdir()
    assert sorted(path.name for path in steps) == ["2"]
    kdjax.run(config, tmp_path / "stopped", quiet=True)
    found = [kdjax.open_stage(tmp_path / name / "student") for name in ("whole", "stopped")]
    chex.assert_trees_all_equal(*(stage.variables for stage in found))
    assert found[0].metrics == found[1].metrics
