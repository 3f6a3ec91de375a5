"""A stage that takes its numbers from the best cell of an earlier stage's grid."""

import dataclasses

import numpy as np
import pytest
from runs import NET, config, values
from stages import refuses

import kdjax
from kdjax.chosen import best_numbers
from kdjax.config import parse, stage

TAUGHT = NET | dict(teacher="teachers", objective=dict(kl_divergence=1.0, cross_entropy=0.1))
AXES = dict(temperature=(1.0, 8.0), learning_rate=(1e-5, 1e-2))
AXES |= dict(kl_divergence=dict(weight=(0.5, 2.0)))
GRID = TAUGHT | dict(members=dict(seed=2, **AXES))
FRESH = TAUGHT | dict(members=dict(seed=(7, 8)), numbers_from="grid")


def made(fresh=None, **grid):
    return config(students=dict(grid=stage(**GRID | grid), fresh=stage(**FRESH | (fresh or {}))))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, undrawn):
    workdir = tmp_path_factory.mktemp("chosen")
    kdjax.run(made(), workdir, quiet=True)
    return workdir


def test_the_numbers_are_those_of_the_cell_with_the_fewest_validation_errors(workdir):
    grid, fresh = (kdjax.open_stage(workdir / name) for name in ("grid", "fresh"))
    members = grid.meta["members"]
    names = ("temperature", "learning_rate", "kl_divergence.weight")
    cells = {}
    for place, member in enumerate(members):
        cells.setdefault(tuple(member[n] for n in names), []).append(place)
    errors, nll = (np.array(grid.metrics["validation"][m]) for m in ("errors", "nll"))
    mean = {cell: (errors[own].mean(), nll[own].mean()) for cell, own in cells.items()}
    best = min(mean, key=mean.get)
    assert len(cells) == 8 and len(set(mean.values())) == 8
    for member in fresh.meta["members"]:
        assert tuple(member[n] for n in names) == pytest.approx(best)
    assert [m["seed"] for m in fresh.meta["members"]] == [7, 8]


def test_the_stage_is_the_one_that_is_given_those_numbers(workdir, tmp_path, undrawn):
    """The same bits, and a rerun that finds the stages done tells the same."""
    fresh = kdjax.open_stage(workdir / "fresh").meta["members"][0]
    given = TAUGHT | dict(members=dict(seed=(7, 8)), temperature=fresh["temperature"])
    given |= dict(optimizer=dict(learning_rate=fresh["learning_rate"]))
    given |= dict(objective=dict(kl_divergence=fresh["kl_divergence.weight"], cross_entropy=0.1))
    alone = values(kdjax.run(config(students=dict(fresh=stage(**given))), tmp_path, quiet=True))
    again = kdjax.run(made(), workdir, quiet=True)
    own = {key: v for key, v in values(again).items() if key[0] == "fresh"}
    assert own == {key: v for key, v in alone.items() if key[0] == "fresh"}
    assert again.settings["fresh"]["temperature"] == fresh["temperature"]
    assert again.choosing - {""} == {"grid"}
    assert {row.stage for row in again.representatives} >= {"fresh"}
    assert "grid" not in {row.stage for row in again.representatives}


def test_another_grid_makes_another_stage(workdir):
    with refuses("grid has other settings (stage.members"):
        kdjax.run(made(members=GRID["members"] | dict(seed=1)), workdir, quiet=True)


def test_members_that_diverged_are_not_chosen(workdir):
    grid = kdjax.open_stage(workdir / "grid")
    source = parse(made()).stages[1]
    best = best_numbers(source, grid)
    worse = [all(m[n] == v for n, v in best.items()) for m in grid.meta["members"]]
    assert sum(worse) == 2
    other = best_numbers(source, dataclasses.replace(grid, diverged=tuple(worse)))
    assert other != best


def test_what_cannot_give_numbers_is_refused(tmp_path):
    says = "config.stages.fresh.numbers_from is"
    for fresh, grid, words in (
        (dict(numbers_from="nothing"), {}, ["'nothing'; it must be an earlier stage", "grid"]),
        ({}, dict(members=dict(seed=2)), ["'grid', which has no grid"]),
        (
            dict(members=dict(seed=2, temperature=(1.0, 2.0))),
            {},
            ["a grid over 'temperature', but this stage sweeps it itself"],
        ),
        (
            dict(objective=dict(logit_matching=1.0)),
            dict(members=dict(seed=2, temperature=(1.0, 2.0))),
            ["a grid over 'temperature', but this stage reads", "logit_matching.weight"],
        ),
    ):
        with refuses(says, *words):
            kdjax.run(made(fresh, **grid), tmp_path, quiet=True)
