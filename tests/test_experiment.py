"""An experiment from config to report: stages, reruns, resuming, refusals."""

import dataclasses
import json
import os
import socket

import jax
import numpy as np
import pytest
from runs import STUDENT, TEACHERS, config, values
from sklearn.datasets import load_digits

import kdjax
from kdjax import experiment, population
from kdjax.config import experiment as make
from kdjax.config import stage
from kdjax.host import files, ownership
from kdjax.report import METRICS, page
from kdjax.rules import InputError

pytestmark = pytest.mark.usefixtures("undrawn")
SOFT = dict(kl_divergence=1.0)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def report(workdir):
    return kdjax.run(config(), workdir, quiet=True)


def test_there_is_a_row_for_each_stage_and_for_the_ensemble(report):
    assert [row.stage for row in report.rows] == [
        "teachers",
        "teachers/ensemble",
        "baseline",
        "distilled",
    ]
    assert [row.members for row in report.rows] == [3, 1, 2, 2]
    for row in report.rows:
        taught = row.stage in ("baseline", "distilled")
        for name in METRICS:
            known = [v is not None for v in row.metrics[name]["values"]]
            assert all(known) if taught or name not in METRICS[-2:] else not any(known)


def test_the_numbers_of_the_report_are_those_of_the_members_predictions(report, workdir):
    inputs, labels = kdjax.examples(config(), "test")
    teachers, student = (kdjax.open_stage(workdir / s) for s in ("teachers", "distilled"))
    predicted = student.predict(inputs).argmax(axis=2)
    errors = (predicted != labels).sum(axis=1)
    assert report.row("distilled").metrics["errors"]["values"] == errors.tolist()
    logits = teachers.predict(inputs).astype(np.float64)
    p = np.exp(logits - logits.max(axis=2, keepdims=True))
    mean = (p / p.sum(axis=2, keepdims=True)).mean(axis=0)
    assert report.row("teachers/ensemble").mean("errors") == (mean.argmax(1) != labels).sum()
    nll = -np.log(mean[np.arange(len(labels)), labels]).mean()
    assert report.row("teachers/ensemble").mean("nll") == pytest.approx(nll, rel=1e-5)
    agreement = (predicted == mean.argmax(axis=1)).mean(axis=1)
    assert report.row("distilled").metrics["agreement"]["values"] == pytest.approx(agreement)


def test_examples_are_those_of_a_split():
    inputs, labels = kdjax.examples(config(), "validation")
    assert inputs.shape == (200, 8, 8, 1) and labels.shape == (200,)
    with pytest.raises(InputError, match=r"split is 'dev'; it must be one of: train, validation"):
        kdjax.examples(config(), "dev")


def test_a_report_says_which_devices_each_stage_ran_on(tmp_path):
    spread = config(students={}, teachers=dict(steps=2), execution=dict(member_shards=3))
    kdjax.run(spread, tmp_path, quiet=True)
    again = kdjax.run(config(students={}, teachers=dict(steps=2)), tmp_path, quiet=True)
    found = again.layouts["teachers"]  # done before, elsewhere than it would now be
    assert (found["member_shards"], found["data_shards"], found["copies"]) == (3, 2, 0)


def test_the_best_member_is_chosen_on_validation_data(report, workdir):
    stage = kdjax.open_stage(workdir / "teachers")
    told = dataclasses.replace(stage, metrics={"validation": {"errors": [9, 7, 8]}})
    assert told.best().members == stage.members[1:2]
    assert dataclasses.replace(told, diverged=[False, True, False]).best().members[0]["seed"] == 2
    best = stage.best()
    images, _ = kdjax.examples(config(), "test")
    assert best.predict(images).shape == (1, len(images), 10)
    with pytest.raises(InputError, match="image files can be read for nets that were trained on"):
        best.read_images([])


def test_a_stage_shows_as_one_line(report, workdir):
    shown = repr(kdjax.open_stage(workdir / "teachers"))
    assert shown == "<teachers: 3 x mlp, 1,810 parameters each, trained on digits>"


def test_the_report_file_has_the_promised_shape(report):
    content = json.loads(files.to_json(page.content(report)))
    assert set(content) == {
        *("rows", "environment", "environments", "config", "examples", "calibration", "curves"),
        *("soft_targets", "class_errors"),
    }
    assert set(content["environments"]) == {"teachers", "baseline", "distilled"}
    assert all(stage == content["environment"] for stage in content["environments"].values())
    keys = {"stage", "cell", "members", "metrics", "parameters", "flops_per_example"}
    keys |= {"latency_ms", "seconds"}
    assert all(keys <= set(row) for row in content["rows"])
    ensemble, single = content["rows"][1], content["rows"][0]
    assert ensemble["parameters"] == 3 * single["parameters"] == 3 * (64 * 24 + 24 + 240 + 10)
    assert ensemble["flops_per_example"] == 3 * single["flops_per_example"]
    assert len(report.frame()) == len(content["rows"])


def test_a_rerun_trains_nothing_and_reports_the_same(report, workdir, monkeypatch):
    monkeypatch.setattr(experiment, "train", lambda *_: pytest.fail("a finished stage was trained"))
    again = kdjax.run(config(), workdir, quiet=True)
    assert values(again) == values(report)


def test_a_fresh_run_repeats_bit_for_bit(report, tmp_path):
    assert values(kdjax.run(config(), tmp_path, quiet=True)) == values(report)


def test_changed_settings_are_refused_with_the_keys_and_nothing_is_lost(report, workdir):
    before = sorted(p.name for p in workdir.rglob("*"))
    for change, words in (
        (dict(teachers=dict(steps=21)), r"stage.steps: 16 -> 21"),
        (dict(dataset=dict(validation=150)), r"another experiment .*validation: 200 -> 150"),
    ):
        with pytest.raises(InputError, match=words):
            kdjax.run(config(**change), workdir, quiet=True)
    assert sorted(p.name for p in workdir.rglob("*")) == before


def test_other_execution_settings_are_the_same_experiment(report, workdir):
    again = config(execution=dict(devices=2, plan="map"), dataset=dict(resident=False))
    assert values(kdjax.run(again, workdir, quiet=True)) == values(report)


@pytest.mark.slow
def test_data_read_by_grain_from_the_cache_give_the_same_bits_as_resident_data(tmp_path):
    fields = STUDENT | dict(batch=16, objective=SOFT, subset=dict(size=300))
    students = {
        f"{order}_{logits}": stage(**fields, teacher_logits=logits, order=order)
        for order in ("own", "shared")
        for logits in ("cached", "live")
    }
    resident, read = (
        kdjax.run(
            config(students=students, dataset=dict(resident=r), cache_dir=cache_dir),
            tmp_path / f"{r}",
            quiet=True,
        )
        for r, cache_dir in ((True, "none"), (False, ""))
    )
    assert values(resident) == values(read)


@pytest.mark.slow
def test_logits_cached_in_float16_teach_almost_the_same(tmp_path):
    fields = STUDENT | dict(objective=SOFT, temperature=4.0)
    names = ("cached", "cached_float16", "live")
    students = {name: stage(**fields, teacher_logits=name) for name in names}
    report = kdjax.run(config(students=students), tmp_path, quiet=True)
    exact, rounded, live = (np.array(report.row(n).metrics["nll"]["values"]) for n in names)
    one, other = (jax.tree.leaves(kdjax.open_stage(tmp_path / n).variables) for n in names[:2])
    assert any((a != b).any() for a, b in zip(one, other, strict=True))
    np.testing.assert_allclose(rounded, exact, rtol=1e-3)
    np.testing.assert_allclose(live, exact, rtol=1e-5)


def test_logits_too_large_for_float16_are_refused_in_one_sentence(tmp_path):
    digits, path = load_digits(), tmp_path / "bright.npz"
    inputs, labels = digits.data * 1e6, digits.target
    np.savez(path, train_inputs=inputs, train_labels=labels, test_inputs=inputs, test_labels=labels)
    student = stage(**STUDENT, objective=SOFT, teacher_logits="cached_float16")
    wrong = config(students=dict(student=student), dataset=dict(name=str(path)))
    with pytest.raises(InputError, match=r"student.teacher_logits .*65504.*must be 'cached'"):
        kdjax.run(wrong, tmp_path / "runs", quiet=True)


@pytest.mark.slow
def test_each_student_may_have_its_own_teacher(tmp_path):
    fields = STUDENT | dict(members=dict(seed=3), steps=200, chunk=200, teacher_logits="cached")
    students = {
        mixing: stage(**fields, objective=SOFT, mixing=mixing) for mixing in ("one_to_one", "best")
    }
    report = kdjax.run(config(students=students), tmp_path, quiet=True)
    inputs, _ = kdjax.examples(config(), "test")
    teachers = kdjax.open_stage(tmp_path / "teachers")
    best = int(np.argmin(teachers.metrics["validation"]["errors"]))
    theirs = teachers.predict(inputs).argmax(2)
    for mixing, of in (("one_to_one", [0, 1, 2]), ("best", [best] * 3)):
        mine = kdjax.open_stage(tmp_path / mixing).predict(inputs).argmax(2)
        agreement = [(mine[m] == theirs[of[m]]).mean() for m in range(3)]
        assert report.row(mixing).metrics["agreement"]["values"] == pytest.approx(agreement)


def test_a_student_opens_a_stage_of_another_experiment_as_its_teacher(report, workdir, tmp_path):
    def student(teacher):
        fields = STUDENT | dict(teacher=teacher, teacher_logits="cached")
        return stage(**fields, objective=SOFT, temperature=2.0)

    near = kdjax.run(config(students=dict(s=student("teachers"))), tmp_path / "near", quiet=True)
    far = make(stages=dict(s=student(str(workdir / "teachers"))), execution=dict(devices=1))
    far = kdjax.run(far, tmp_path / "far", quiet=True)
    assert values(far)["s", "nll"] == values(near)["s", "nll"]
    assert far.rows[0].label == "teachers/ensemble"


@pytest.mark.slow
def test_teachers_of_different_models_are_one_ensemble(tmp_path):
    big = stage(**TEACHERS | dict(model=dict(name="mlp", hidden=(32, 24)), members=dict(seed=2)))
    student = stage(**STUDENT | dict(teacher="teachers,big"), objective=SOFT)
    report = kdjax.run(config(students=dict(big=big, s=student)), tmp_path, quiet=True)
    ensemble = report.row("teachers+big/ensemble")
    single = {row.stage: row.parameters for row in report.rows}
    assert ensemble.parameters == 3 * single["teachers"] + 2 * single["big"]


def test_a_stage_may_start_from_the_parameters_of_another(tmp_path):
    slow = dict(learning_rate=1e-6)
    students = dict(
        again=stage(**TEACHERS | dict(steps=1, optimizer=slow), init_from="teachers"),
        fresh=stage(**TEACHERS | dict(steps=1, optimizer=slow)),
    )
    report = kdjax.run(config(students=students), tmp_path, quiet=True)
    nll = {row.stage: row.metrics["nll"]["values"] for row in report.rows}
    assert nll["again"] == pytest.approx(nll["teachers"], rel=1e-3)
    assert not np.allclose(nll["fresh"], nll["teachers"], rtol=1e-3)


def test_another_experiment_in_the_workdir_is_refused_and_a_longer_one_goes_on(report, workdir):
    other = dict(other=stage(**STUDENT))
    with pytest.raises(InputError, match=r"holds another experiment .*it has the stage baseline"):
        kdjax.run(config(students=other), workdir, quiet=True)


def test_a_second_run_in_the_same_workdir_is_refused_while_the_first_is_at_work(report, workdir):
    owner = rf"is in use by another run \(process {os.getpid()} on {socket.gethostname()} since 20"
    with ownership.lock(workdir), pytest.raises(InputError, match=owner):
        kdjax.run(config(), workdir, quiet=True)
    assert (workdir / ".lock").read_text().count("process") == 1
    assert values(kdjax.run(config(), workdir, quiet=True)) == values(report)


def test_changed_data_of_the_same_name_is_another_experiment(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"train_inputs": rng.random((80, 5), np.float32), "train_labels": np.arange(80) % 2}
    arrays |= {k.replace("train", "test"): v for k, v in arrays.items()}
    own = tmp_path / "own.npz"
    made = make(
        dataset=dict(name=str(own)), stages=dict(t=stage(**TEACHERS)), execution=dict(devices=1)
    )
    np.savez(own, **arrays)
    kdjax.run(made, tmp_path / "run", quiet=True)
    arrays["train_inputs"][0] += 1
    np.savez(own, **arrays)
    with pytest.raises(InputError, match=r"holds another experiment \(dataset.version"):
        kdjax.run(made, tmp_path / "run", quiet=True)


def test_a_chunk_is_traced_once_per_shape(tmp_path, monkeypatch):
    traces = []
    original = population.member.train_step
    monkeypatch.setattr(
        population.member, "train_step", lambda *a: traces.append(1) or original(*a)
    )
    kdjax.run(config(teachers=dict(steps=28), students={}), tmp_path, quiet=True)
    assert len(traces) == 2  # chunks of 8 steps, and the last of 4


def test_operations_that_xla_does_not_count_are_left_out_of_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment.evaluation.cost, "flops", lambda *_: float("nan"))
    report = kdjax.run(config(), tmp_path / "run", quiet=True)
    frame = report.frame()
    assert frame.flops_per_example.isna().all() and (frame.parameters > 0).all()
    assert "nan" not in report.table()
