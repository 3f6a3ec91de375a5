"""Members that diverge are masked, counted and left out; where all do, the stage says so."""

import json
import shutil

import numpy as np
import pytest
from runs import STUDENT, TEACHERS, config

import kdjax
from kdjax import evaluation
from kdjax.config import stage
from kdjax.host import checkpoint
from kdjax.rules import Diverged, InputError

pytestmark = pytest.mark.usefixtures("undrawn")

SGD = STUDENT | dict(optimizer=dict(name="sgd"), steps=40, chunk=40)
HOT = SGD | dict(optimizer=dict(name="sgd", learning_rate=1e3, weight_decay=1e6))


def run(students, workdir, **teachers):
    return kdjax.run(config(teachers, students), workdir, quiet=True)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A directory with three finished teachers, which no test may change."""
    directory = tmp_path_factory.mktemp("good")
    run({}, directory)
    return directory


def test_a_diverged_member_is_counted_and_left_out(tmp_path):
    rates = dict(seed=1, learning_rate=(1e-3, 1e3))
    students = dict(s=stage(**SGD | dict(members=rates), objective=dict(logit_matching=1.0)))
    report = run(students, tmp_path)
    good, bad = (row for row in report.rows if row.stage == "s")
    assert (good.diverged, bad.diverged) == (0, 1)
    assert good.mean("errors") is not None and bad.mean("errors") is None
    assert "| 0 of 1 |" in report.table()
    (row,) = checkpoint.read_metrics(tmp_path / "s")
    assert row["bad"] == [False, True] and row["loss"][1] > 1e3 * row["loss"][0] > 0


def test_where_all_diverge_the_stage_stops_with_step_losses_and_a_hint(tmp_path):
    students = dict(s=stage(**HOT, objective=dict(kl_divergence=1.0)))
    says = (
        r"^config\.stages\.s: all 2 members have diverged by step 40 \(losses: "
        r"\d\.\d+e\+\d+, \d\.\d+e\+\d+\); delete .*/s and try a smaller learning_rate or "
        r"temperature, warmup_steps or clip_norm$"
    )
    for _ in range(2):  # a rerun does not carry on as if nothing had been
        with pytest.raises(Diverged, match=says):
            run(students, tmp_path)
    assert not (tmp_path / "s" / "DONE").exists()
    assert (tmp_path / "teachers" / "DONE").exists()


def test_members_that_only_their_evaluation_shows_to_have_diverged_are_counted(
    tmp_path, monkeypatch
):
    finish = evaluation.metrics.finish
    monkeypatch.setattr(
        evaluation.metrics, "finish", lambda totals: finish(totals) | {"nll": np.full(3, np.nan)}
    )
    with pytest.raises(Diverged, match="all 3 members have diverged by step 16"):
        run({}, tmp_path)
    assert not (tmp_path / "teachers" / "DONE").exists()


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_a_diverged_teacher_does_not_teach(tmp_path, mean):
    sgd = dict(optimizer=dict(name="sgd"), members=dict(seed=1, weight_decay=(0.0, 1e-4, 1e6)))
    students = dict(
        s=stage(**STUDENT, objective=dict(kl_divergence=1.0), mean=mean, teacher_logits="cached")
    )
    report = run(students, tmp_path, **sgd)
    assert [row.diverged for row in report.rows if row.stage == "teachers"] == [0, 0, 1]
    assert report.row("s").diverged == 0
    assert report.row("teachers/ensemble").parameters == 2 * report.rows[0].parameters


def with_diverged(good, tmp_path, *members):
    """A copy of the finished teachers, of which these have diverged."""
    copy = shutil.copytree(good / "teachers", tmp_path / "old" / "teachers")
    results = json.loads((copy / "DONE").read_text())
    results["diverged"] = [m in members for m in range(3)]
    (copy / "DONE").write_text(json.dumps(results))
    return copy


@pytest.mark.parametrize(
    ("members", "fields", "says"),
    [
        ((0, 1, 2), {}, r"s.teacher is '.*': .*teachers has no member that did not diverge"),
        ((1,), dict(mixing="one_to_one", members=dict(seed=3)), r"3 seeds and 2 teachers, those"),
        ((1,), dict(members=dict(ensemble_size=(3,))), r"size is 3; .* the 2 teachers, those that"),
    ],
)
def test_teachers_that_diverged_before_are_refused_before_anything_is_written(
    good, tmp_path, members, fields, says
):
    old = with_diverged(good, tmp_path, *members)
    student = stage(**STUDENT | dict(teacher=str(old)) | fields, objective=dict(kl_divergence=1.0))
    with pytest.raises(InputError, match=says) as caught:
        run(dict(s=student), tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_member_that_starts_from_one_that_diverged_is_counted(good, tmp_path):
    old = with_diverged(good, tmp_path, 1)
    again = stage(**TEACHERS | dict(steps=1), init_from=str(old))
    assert run(dict(again=again), tmp_path / "run").row("again").diverged == 1
