"""What a report finds in finished stages: cells, ensembles of the first k, missing classes."""

import numpy as np
import pytest
from runs import STUDENT, config

import kdjax
from kdjax.config import stage
from kdjax.teachers import Teachers


def test_a_grid_has_a_row_for_each_cell_and_trains_in_one_program(tmp_path, capsys):
    grid = dict(seed=2, temperature=(1.0, 4.0), ensemble_size=(1, 3))
    students = dict(
        sweep=stage(**STUDENT | dict(members=grid), loss="kl_divergence", teacher_logits="cached")
    )
    report = kdjax.run(config(students=students), tmp_path)
    started = "sweep: 8 x mlp (2 of temperature x 2 of ensemble_size x 2 of seed), 1,210 parameters"
    assert started in capsys.readouterr().out
    rows = [row for row in report.rows if row.stage == "sweep"]
    cells = [(row.cell["temperature"], row.cell["ensemble_size"]) for row in rows]
    assert sorted(cells) == [(1.0, 1), (1.0, 3), (4.0, 1), (4.0, 3)]
    assert all(row.members == 2 for row in rows)
    ensembles = [row for row in report.rows if row.is_ensemble]
    assert [row.cell for row in ensembles] == [{"ensemble_size": 1}, {"ensemble_size": 3}]
    first = report.row("teachers").metrics["errors"]["values"][0]
    assert ensembles[0].mean("errors") == first
    assert ensembles[1].parameters == 3 * ensembles[0].parameters
    both = Teachers((kdjax.open_stage(tmp_path / "teachers"),) * 2)
    inputs = np.random.default_rng(0).integers(0, 17, (5, 8, 8, 1))
    for size in (2, 3, 4, 6):
        first = both.first(size).predict(inputs)
        np.testing.assert_array_equal(first, both.predict(inputs)[:size])
    alone = dict(
        sweep=stage(**STUDENT, loss="kl_divergence", teacher_logits="cached", temperature=4.0)
    )
    expected = kdjax.run(config(students=alone), tmp_path / "alone", quiet=True).row("sweep")
    row = rows[cells.index((4.0, 3))]
    assert row.metrics["nll"]["values"] == pytest.approx(
        expected.metrics["nll"]["values"], rel=1e-4
    )


def test_a_student_that_never_saw_a_class_learns_it_from_its_teacher(tmp_path):
    teachers = dict(steps=300, chunk=100, optimizer=dict(learning_rate=0.005))
    fields = STUDENT | dict(steps=600, chunk=200, model=dict(name="mlp", hidden=(32,)))
    fields |= dict(optimizer=dict(learning_rate=0.01), subset=dict(without=(3,)))
    students = dict(
        labels=stage(**fields),
        soft=stage(**fields, loss="kl_divergence", temperature=4.0, teacher_logits="cached"),
    )
    report = kdjax.run(config(teachers, students), tmp_path, quiet=True)
    labels, soft = report.missing
    threes = soft["examples"]
    assert soft["classes"] == [3] and soft["of"] == 797 and 60 < threes < 100
    assert soft["as_trained"]["errors"] == report.row("soft").metrics["errors"]["values"]
    wrong = {name: np.mean(soft[name]["missing_errors"]) for name in ("as_trained", "matched")}
    assert wrong["matched"] < wrong["as_trained"] < 0.3 * threes
    assert np.mean(labels["as_trained"]["missing_errors"]) == threes
    assert np.mean(labels["matched"]["missing_errors"]) > 2 * wrong["matched"]
    assert all(
        best <= matched
        for best, matched in zip(soft["best"]["errors"], soft["matched"]["errors"], strict=True)
    )
