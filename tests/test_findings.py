"""What a report finds in finished stages: cells, ensembles of the first k, missing classes."""

import numpy as np
import pytest
from runs import STUDENT, config

import kdjax
from kdjax import findings
from kdjax.config import parse, stage
from kdjax.teachers import Asked, stages


@pytest.mark.usefixtures("undrawn")
@pytest.mark.long
def test_a_grid_has_a_row_for_each_cell_and_trains_in_one_program(tmp_path, capsys):
    grid = dict(seed=2, temperature=(1.0, 4.0), ensemble_size=(1, 3))
    students = dict(
        sweep=stage(
            **STUDENT | dict(members=grid),
            objective=dict(kl_divergence=1.0),
            teacher_logits="cached",
        )
    )
    report = kdjax.run(config(students=students), tmp_path)
    told = capsys.readouterr().out
    started = (
        "sweep: 8 mlp (2 values of temperature, 2 values of ensemble_size) of 1,210 parameters, "
        "0.8 epochs of 800 examples, taught by teachers (3)"
    )
    assert started in " ".join(told.split())
    own = [line for line in told.splitlines() if str(tmp_path) not in line]
    assert max(map(len, own)) <= 100
    rows = [row for row in report.rows if row.stage == "sweep"]
    cells = [(row.cell["temperature"], row.cell["ensemble_size"]) for row in rows]
    assert sorted(cells) == [(1.0, 1), (1.0, 3), (4.0, 1), (4.0, 3)]
    assert all(row.members == 2 and row.seeds == (0, 1) for row in rows)
    sweep = kdjax.open_stage(tmp_path / "sweep")
    wrong = np.array(sweep.metrics["validation"]["errors"]).reshape(4, 2).mean(axis=1)
    assert sorted(row.validation_errors for row in rows) == sorted(wrong.tolist())
    chosen = report.representatives[-1]
    assert chosen.validation_errors == wrong.min() and chosen in rows
    ensembles = [row for row in report.rows if row.is_ensemble]
    assert [row.cell for row in ensembles] == [{"ensemble_size": 1}, {"ensemble_size": 3}]
    first = report.row("teachers").metrics["errors"]["values"][0]
    assert ensembles[0].mean("errors") == first
    assert ensembles[1].parameters == 3 * ensembles[0].parameters
    both = stages(*[tmp_path / "teachers"] * 2)
    inputs = np.random.default_rng(0).integers(0, 17, (5, 8, 8, 1))
    asked = Asked("test", np.arange(5), inputs, kdjax.open_stage(tmp_path / "sweep").preprocessing)
    for size in (2, 3, 4, 6):
        first = both.part(size).predict(asked)
        np.testing.assert_array_equal(first, both.predict(asked)[:size])
    alone = dict(
        sweep=stage(
            **STUDENT, objective=dict(kl_divergence=1.0), teacher_logits="cached", temperature=4.0
        )
    )
    expected = kdjax.run(config(students=alone), tmp_path / "alone", quiet=True).row("sweep")
    row = rows[cells.index((4.0, 3))]
    assert row.metrics["nll"]["values"] == pytest.approx(
        expected.metrics["nll"]["values"], rel=1e-4
    )
    assert report.taught == {"sweep"} and report.teachers == {"sweep": ("teachers",)}
    assert report.ensembles == {"sweep": "teachers/ensemble"}
    assert sum(report.class_counts) == 797 and len(report.class_errors) == len(
        report.representatives
    ) - sum(row.is_ensemble for row in report.representatives)
    for label, errors in report.class_errors.items():
        assert np.sum(errors, axis=1).tolist() == report.row(label).metrics["errors"]["values"]
    assert report.mistakes["label"] == chosen.label
    assert report.mistakes["images"].shape[1:] == (8, 8, 1)
    assert report.mixtures == {"sweep": "arithmetic"} and report.class_names[3] == "3"
    assert report.settings["sweep"]["members.temperature"] == (1.0, 4.0)
    assert_bins_are_those_of_the_calibration_error(report)
    assert_soft_targets_are_what_the_nets_say(report, tmp_path)


def assert_bins_are_those_of_the_calibration_error(report):
    shown = report.representatives
    assert [found["label"] for found in report.calibration] == [row.label for row in shown]
    assert [row.stage for row in shown] == ["teachers", *["teachers/ensemble"] * 2, "sweep"]
    for found, row in zip(report.calibration, shown, strict=True):
        count, confidence, accuracy = (
            np.nan_to_num(np.array(found[name], float))
            for name in ("count", "confidence", "accuracy")
        )
        assert count.sum(axis=1).tolist() == [report.examples["test"]] * row.members
        right = 797 - np.array(row.metrics["errors"]["values"])
        np.testing.assert_allclose((count * accuracy).sum(axis=1), right, rtol=1e-5)
        gap = (count * np.abs(confidence - accuracy)).sum(axis=1) / 797
        np.testing.assert_allclose(gap, row.metrics["ece"]["values"], atol=1e-5)


def assert_soft_targets_are_what_the_nets_say(report, workdir):
    """The teachers at T = 1, then they and the student at the T of its best cell, or 4 for 1."""
    found, best = report.soft_targets, report.representatives[-1]
    assert len(set(found["labels"])) == len(found["images"]) == 4
    stage = kdjax.open_stage(workdir / "sweep")
    seeds = [i for i, member in enumerate(stage.members) if best.cell.items() <= member.items()]
    t = best.cell["temperature"]
    nets = [(kdjax.open_stage(workdir / "teachers"), u) for u in (1.0, 4.0)]
    nets.append((stage.part(seeds), t))
    for (title, p), (net, u) in zip(found["distributions"].items(), nets, strict=True):
        logits = net.predict(found["images"]).astype(np.float64) / u
        q = np.exp(logits - logits.max(axis=2, keepdims=True))
        np.testing.assert_allclose(p, (q / q.sum(axis=2, keepdims=True)).mean(axis=0), atol=1e-5)
        assert title.endswith(f"T = {u:g}")
    assert title == f"{best.label}\nn = 2, T = {t:g}"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.slow
def test_a_student_that_never_saw_a_class_learns_it_from_its_teacher(tmp_path):
    teachers = dict(steps=300, chunk=100, optimizer=dict(learning_rate=0.005))
    fields = STUDENT | dict(steps=600, chunk=200, model=dict(name="mlp", hidden=(32,)))
    fields |= dict(optimizer=dict(learning_rate=0.01), subset=dict(without=(3,)))
    students = dict(
        labels=stage(**fields),
        soft=stage(
            **fields, objective=dict(kl_divergence=1.0), temperature=4.0, teacher_logits="cached"
        ),
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


def test_settings_are_the_fields_in_which_a_stage_is_not_default():
    stages = {
        "teachers": {"steps": 40, "model": {"name": "mlp", "hidden": (256, 256)}},
        "student": {
            "objective": {"kl_divergence": 1.0},
            "teacher": "teachers",
            "model": {"name": "cnn"},
        },
    }
    found = findings.settings_of(parse({"stages": stages}).stages)
    teachers, student = found["teachers"], found["student"]
    assert (teachers["steps"], student["steps"]) == (40, 1000)
    assert teachers["batch"] == student["batch"] == 100  # not changed, and shown all the same
    assert teachers["objective.cross_entropy.weight"] == 1.0
    assert student["objective.kl_divergence.weight"] == 1.0
    assert (teachers["model.name"], student["model.name"]) == ("mlp", "cnn")
    assert teachers["model.hidden"] == (256, 256) and "model.hidden" not in student
    assert (teachers["teacher"], student["teacher"]) == ((), ("teachers",))
    assert "order" not in teachers and "optimizer.learning_rate" not in student
