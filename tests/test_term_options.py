"""Options and numbers of the terms of the table, through both doors, before any compute."""

import numpy as np
import pytest
from stages import refuses

import kdjax
from examples.your_own import mine
from kdjax import losses
from kdjax.api import _config
from kdjax.config import experiment, parse, stage

NET = dict(name="mlp", hidden=(8,))
TWO = mine.labels < 2
DATA = kdjax.arrays(
    train=(mine.images[TWO][:200], mine.labels[TWO][:200]),
    test=(mine.images[TWO][200:], mine.labels[TWO][200:]),
)
TEACHER = kdjax.function(
    lambda p, x: x.reshape(len(x), -1) @ p, np.eye(64, 2, dtype=np.float32), name="reading"
)


def part(**objective):
    """The term of a stage that a config has, filled in and as it is."""
    stages = dict(t=stage(), s=stage(teacher="t", objective=objective))
    plain = dict(t={}, s=dict(teacher="t", objective=objective))
    found = [parse(dict(stages=s)).stages[1].objective for s in (experiment(stages).stages, plain)]
    assert [(p.name, p.source, p.options, p.numbers) for p in found[0]] == [
        (p.name, p.source, p.options, p.numbers) for p in found[1]
    ]
    return found[0][0]


def test_an_option_fixes_the_program_and_a_number_does_not():
    found = part(top_k_kl=dict(k=3, weight=2.0))
    assert found.options == (("k", 3),) and dict(found.numbers) == {"weight": 2.0}
    found = part(multi_temperature=dict(temperatures=(1.0, 4.0)))
    assert found.options == (("temperatures", (1.0, 4.0)),)
    assert part(dkd=1.0).options == () and dict(part(dkd=1.0).numbers)["beta"] == 8.0


def test_standardized_names_another_row_and_has_its_numbers():
    found = part(standardized=dict(term="dkd", weight=9.0, temperature=2.0, beta=4.0))
    assert (found.name, found.source, found.options) == (
        "standardized",
        "standardized",
        (("term", "dkd"),),
    )
    assert found.term.needs == {"labels", "targets"}
    assert dict(found.numbers) == dict(weight=9.0, temperature=2.0, alpha=1.0, beta=4.0)


def test_a_term_by_another_name_is_still_a_row():
    found = part(soft=dict(term="top_k_kl", k=2))
    assert (found.name, found.source, found.options) == ("soft", "top_k_kl", (("k", 2),))


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (dict(standardized=dict(term="cross_entropy")), "'cross_entropy', which needs no targets"),
        (dict(standardized=dict(term="jacobian_matching")), "or derivatives beside them"),
        (dict(standardized=dict(term="kl")), "term is 'kl'; it must be one of: cross_entropy"),
        (dict(standardized=dict(term="standardized")), "term is 'standardized'; it must be one of"),
        (dict(multi_temperature=dict(temperatures=())), "temperatures is (); there must be at"),
        (dict(multi_temperature=dict(temperatures=(0.0,))), "each element a number of at least"),
        (dict(jensen_shannon=dict(beta=1.5)), "beta is 1.5; it must be a number of at least 0 and"),
        (dict(skew_kl=dict(skew=1.0)), "skew is 1.0; it must be a number from 0 to below 1"),
        (dict(virtual_teacher=dict(correct_probability=1.0)), "must be a number above 0 and below"),
        (dict(dkd=dict(gamma=1.0)), "has no field 'gamma'"),
    ],
    ids=str,
)
def test_what_a_term_cannot_take_is_refused(objective, words):
    (name,) = objective
    with refuses(f"config.stages.s.objective.{name}", words):
        parse(dict(stages=dict(t={}, s=dict(teacher="t", objective=objective))))


def test_a_tuple_is_an_axis_of_a_number_and_the_value_of_an_option():
    objective = dict(
        multi_temperature=dict(temperatures=(1.0, 4.0), weight=(0.5, 1.0)),
        dkd=dict(beta=(2.0, 8.0)),
    )
    config = _config(NET, DATA, (TEACHER,), objective, 1, "s", {})
    found = parse(config).stages[0]
    assert dict(found.members) == {
        "dkd.beta": (2.0, 8.0),
        "multi_temperature.weight": (0.5, 1.0),
        "seed": (0,),
    }
    assert found.objective[1].options == (("temperatures", (1.0, 4.0)),)


@pytest.mark.parametrize("name", ["dkd", "nkd"])
def test_two_classes_are_refused_through_both_doors(name, tmp_path):
    says = f"objective.{name}: there are 2 classes; {name} must have at least 3"
    with refuses("config.stages.student", says):
        kdjax.distill(NET, TEACHER, DATA, objective=name, quiet=True)
    student = stage(model=NET, teacher="t", objective={name: 1.0}, members=dict(seed=(1,)))
    stages = dict(t=stage(model=NET), s=student)
    with refuses("config.stages.s", says):
        kdjax.run(experiment(stages, dataset=dict(name=DATA)), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    wrapped = losses.standardized(losses.TERMS[name])
    with refuses("objective.standardized: there are 2 classes"):
        kdjax.distill(NET, TEACHER, DATA, objective=wrapped, quiet=True)


def test_a_k_of_no_class_is_refused_before_training():
    with refuses("config.stages.student.objective.top_k_kl: k is 0; it must be a whole number"):
        kdjax.distill(NET, TEACHER, DATA, objective=dict(top_k_kl=dict(k=0)), quiet=True)
