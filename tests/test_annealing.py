"""Numbers of an objective that change over the steps, and generations of nets."""

import jax.numpy as jnp
import numpy as np
import pytest
from runs import NET, config, values
from stages import refuses

import kdjax
from kdjax.config import experiment, generations, parse, stage
from kdjax.config.spec import ANNEALINGS, grid
from kdjax.losses import TERMS
from kdjax.member import numbers_of

DISTILLED = NET | dict(teacher="teachers", members=dict(seed=2))


@pytest.mark.parametrize("name", ANNEALINGS)
def test_annealing_goes_from_0_to_1_and_never_back(name):
    way = np.array([ANNEALINGS[name](jnp.float32(done)) for done in np.linspace(0, 1, 21)])
    assert way[0] == 0 and way[-1] == pytest.approx(1) and way[10] == pytest.approx(0.5)
    assert (np.diff(way) > 0).all()


def test_each_number_moves_to_its_own_end():
    hparams = {"temperature": 8.0, "kl_divergence.weight": 1.0, "kl_divergence.weight_end": 3.0}
    hparams |= {"kl_divergence.temperature_end": 2.0, "cross_entropy.weight": 0.5}
    hparams |= {"cross_entropy.label_smoothing": 0.1}
    term = TERMS["kl_divergence"]
    found = [numbers_of("kl_divergence", term, hparams, done) for done in (0.0, 0.5, 1.0)]
    assert found == [{"weight": w, "temperature": t} for w, t in ((1, 8), (2, 5), (3, 2))]
    still = numbers_of("cross_entropy", TERMS["cross_entropy"], hparams, 0.5)
    assert still == {"weight": 0.5, "label_smoothing": 0.1}


def test_an_end_that_is_the_start_changes_nothing_and_another_does(tmp_path, undrawn):
    """Members with and without an end, in one program; the same bits where both are equal."""
    still = dict(kl_divergence=dict(weight=1.0, temperature=4.0), cross_entropy=0.1)
    ends = dict(still, kl_divergence=dict(weight=1.0, temperature=4.0, temperature_end=4.0))
    axis = DISTILLED | dict(members=dict(seed=2, kl_divergence=dict(temperature_end=(4.0, 1.0))))
    students = dict(
        still=stage(**DISTILLED, objective=still),
        ends=stage(**DISTILLED, objective=ends),
        axis=stage(**axis, objective=ends, annealing="cosine"),
    )
    report = kdjax.run(config(students=students), tmp_path, quiet=True)
    found = values(report)
    labels = [row.label for row in report.rows if row.stage == "axis"]
    assert labels == [f"axis kl_divergence.temperature_end={n}" for n in (4, 1)]
    assert found["still", "nll"] == found["ends", "nll"] == found[labels[0], "nll"]
    assert found["still", "nll"] != found[labels[1], "nll"]


def test_a_weight_that_ends_at_0_or_begins_there_is_a_weight():
    for weight, end in ((0.0, 1.0), (1.0, 0.0)):
        objective = dict(cross_entropy=dict(weight=weight, weight_end=end))
        spec = parse(experiment(dict(a=stage(**NET, objective=objective))))
        (member,) = grid(spec.stages[0])
        assert member["cross_entropy.weight_end"] == end
    with refuses("a.objective has the weights cross_entropy.weight, which are all 0"):
        parse(experiment(dict(a=stage(**NET, objective=dict(cross_entropy=0.0)))))


def test_ends_are_checked_as_their_numbers_are():
    def made(numbers, **fields):
        objective = dict(kl_divergence=numbers, cross_entropy=1.0)
        return config(students=dict(a=stage(**DISTILLED | fields, objective=objective)))

    with refuses("objective.kl_divergence.temperature_end is 0"):
        made(dict(temperature_end=0.0))
    with refuses("objective.kl_divergence has no field 'weight_ends'", "'weight_end'"):
        made(dict(weight_ends=1.0))
    with refuses("config.stages.a.annealing is 'cosine', which nothing in the stage reads"):
        parse(made(dict(weight=1.0), annealing="cosine"))
    with refuses("the term 'a': a number is named 'b_end'"):
        kdjax.Term(len, hparams={"b_end": 1.0}, name="a")


def test_generations_each_learn_from_the_one_before(tmp_path, undrawn):
    net = NET | dict(members=dict(seed=2))
    report = kdjax.run(experiment(generations(3, **net)), tmp_path, quiet=True)
    assert report.teachers == {"generation1": ("generation0",), "generation2": ("generation1",)}
    seeds = [kdjax.open_stage(tmp_path / f"generation{n}").meta["members"] for n in range(3)]
    assert [[m["seed"] for m in members] for members in seeds] == [[0, 1], [2, 3], [4, 5]]
    own = generations(2, teacher="teachers", objective=dict(kl_divergence=1.0), **net)
    taught = parse(config(students=own))
    assert [s.teacher for s in taught.stages] == [(), ("teachers",), ("generation0",)]
    with refuses("count is 0; it must be"):
        generations(0, **net)
    with refuses("members.seed is (0, 1); it must be"):
        generations(2, members=dict(seed=(0, 1)))
