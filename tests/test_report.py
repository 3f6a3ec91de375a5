"""The report: statistics against NumPy, the table, and files that another program can read."""

import dataclasses
import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from reports import (
    BASELINE,
    ENVIRONMENT,
    STUDENT,
    a_missing,
    a_report,
    row,
    small,
    study,
)

from kdjax import report
from kdjax.host import files as host_files
from kdjax.report import METRICS, page, rows, words
from kdjax.statistics import Difference, holm, summarise


class TestSummarise:
    def test_is_the_sample_statistics(self):
        found = summarise(STUDENT)
        assert found["mean"] == pytest.approx(np.mean(STUDENT))
        assert found["std"] == pytest.approx(np.std(STUDENT, ddof=1))
        assert found["values"] == STUDENT

    def test_leaves_out_diverged_members_and_keeps_their_place(self):
        found = summarise([31, None, 35, math.nan, math.inf, 30])
        assert found["values"] == [31, None, 35, None, None, 30]
        assert found["mean"] == 32 and found["std"] == pytest.approx(np.std([31, 35, 30], ddof=1))

    @pytest.mark.parametrize("values", [[], [None], [None, math.nan]])
    def test_says_nothing_of_nothing(self, values):
        assert summarise(values) == {"mean": None, "std": None, "values": [None] * len(values)}

    def test_one_member_has_no_spread(self):
        assert summarise([None, 7]) == {"mean": 7.0, "std": None, "values": [None, 7.0]}

    def test_returns_plain_floats(self):
        found = summarise(np.float32([1, 2]))
        assert {type(v) for v in (found["mean"], found["std"], *found["values"])} == {float}


class TestDifference:
    def test_is_of_means_with_its_standard_error(self):
        found = small().difference("distilled", "teachers")
        error = np.sqrt(np.var(STUDENT, ddof=1) / 5 + np.var([24, 25, 23], ddof=1) / 3)
        assert found["mean"] == pytest.approx(30 - 24)
        assert found["standard_error"] == pytest.approx(error)
        assert found["ratio"] == pytest.approx(6 / error)

    def test_paired_is_over_members(self):
        found = small().difference("distilled", "baseline", paired=True)
        gaps = np.subtract(STUDENT, BASELINE)
        assert found["mean"] == pytest.approx(gaps.mean()) and found["mean"] < 0
        assert found["standard_error"] == pytest.approx(gaps.std(ddof=1) / np.sqrt(5))
        assert abs(found["ratio"]) > abs(small().difference("distilled", "baseline")["ratio"])

    def test_counts_only_members_that_did_not_diverge(self):
        a, b = [30, None, 34, 40], [31, 33, None, 35]
        whole = a_report(row("a", a), row("b", b))
        error = np.sqrt(np.var([30, 34, 40], ddof=1) / 3 + np.var([31, 33, 35], ddof=1) / 3)
        assert whole.difference("a", "b")["standard_error"] == pytest.approx(error)
        paired = whole.difference("a", "b", paired=True)
        assert paired["mean"] == pytest.approx(np.mean([30 - 31, 40 - 35]))

    def test_other_metrics(self):
        found = small().difference("distilled", "baseline", metric="accuracy")
        gap = np.mean(BASELINE) - np.mean(STUDENT)
        assert found["mean"] == pytest.approx(gap / 797)

    def test_the_p_value_is_that_of_scipy(self):
        a, b = [30, 33, 34, 40], [31, 28, 29, 27, 30]
        found = a_report(row("a", a), row("b", b)).difference("a", "b")["p_value"]
        assert found == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue)
        both = a_report(row("a", a), row("b", b[:4]))
        paired = both.difference("a", "b", paired=True)["p_value"]
        assert paired == pytest.approx(scipy.stats.ttest_rel(a, b[:4]).pvalue)

    def test_many_differences_are_told_apart_by_holm(self):
        gap = lambda p: Difference(
            mean=-1.0, standard_error=1.0, ratio=-1.0, p_value=p, verdict="better"
        )
        told = lambda *ps: [g["verdict"] == "better" for g in holm([gap(p) for p in ps])]
        assert told(0.04) == [True] and told(0.04, 0.04) == [False, False]
        assert told(0.04, 0.02) == [True, True] and told(0.03, 0.01, 0.9) == [False, True, False]
        assert told(0.02, 0.02, 0.02) == [False, False, False]  # three times 0.02
        assert holm([]) == []

    def test_says_what_it_cannot_say(self):
        single = a_report(row("a", [30]), row("b", [21, 25])).difference("a", "b")
        nothing = {"standard_error": None, "ratio": None, "p_value": None}
        nothing |= {"verdict": "not told apart"}
        assert single == {"mean": 7.0} | nothing
        same = a_report(row("a", [3, 3]), row("b", [2, 2])).difference("a", "b")
        sure = {"standard_error": 0.0, "ratio": None, "p_value": 0.0, "verdict": "worse"}
        assert same == {"mean": 1.0} | sure
        lost = a_report(row("a", [None, None]), row("b", [2, 2])).difference("a", "b")
        assert lost == {"mean": None} | nothing
        assert small().difference("distilled", "teachers", "teacher_kl")["mean"] is None

    def test_an_ensemble_is_taken_as_given(self):
        found = small().difference("distilled", "teachers/ensemble")
        error = np.std(STUDENT, ddof=1) / np.sqrt(5)
        assert found["mean"] == 9 and found["standard_error"] == pytest.approx(error)
        assert found["verdict"] == "worse"

    @pytest.mark.parametrize("apart", [1.0, 2.0, 3.0, 4.0, 6.0, 12.0])
    @pytest.mark.parametrize("n", [2, 3, 10])
    def test_a_verdict_is_that_of_welchs_test(self, n, apart):
        draw = np.random.default_rng(n).normal
        a, b = draw(30, 1, n).tolist(), draw(30 + apart, 4, n).tolist()
        whole = a_report(row("a", a), row("b", b))
        told = scipy.stats.ttest_ind(a, b, equal_var=False).pvalue < 0.05
        sure = "better" if np.mean(a) < np.mean(b) else "worse"
        assert whole.difference("a", "b")["verdict"] == (sure if told else "not told apart")
        more = {"better": "worse", "worse": "better"}.get(sure) if told else "not told apart"
        assert whole.difference("b", "a")["verdict"] == more
        assert whole.difference("a", "b", "accuracy")["verdict"] == (
            sure if told else "not told apart"
        )
        paired = scipy.stats.ttest_rel(a, b).pvalue < 0.05
        assert (whole.difference("a", "b", paired=True)["verdict"] != "not told apart") == paired

    def test_a_cell_is_named_by_its_label(self):
        assert small().difference("sweep temperature=4", "sweep temperature=0.5")["mean"] == (
            pytest.approx(32 - 94 / 3)
        )
        with pytest.raises(ValueError, match=r"'sweep' names 2 rows.*sweep temperature=0\.5"):
            small().difference("sweep", "baseline")
        with pytest.raises(ValueError, match="'student' names 0 rows; name one of: teachers, "):
            small().difference("student", "baseline")

    def test_pairs_are_of_equal_seeds(self):
        a, b = row("a", [30, 34, 40], seeds=(2, 0, 1)), row("b", [31, 33, None])
        found = a_report(a, b).difference("a", "b", paired=True)
        assert found["mean"] == pytest.approx(np.mean([30 - 31, 34 - 31, 40 - 33][1:]))
        with pytest.raises(ValueError, match=r"a has the seeds \[2, 0, 1\], c \[0, 1\]: no pairs"):
            a_report(a, row("c", [1, 2])).difference("a", "c", paired=True)
        with pytest.raises(ValueError, match=r"t/ensemble \[\]: no pairs"):
            a_report(*[row("t/ensemble", [1])] * 1).difference(*["t/ensemble"] * 2, paired=True)

    def test_near_values_of_an_axis_keep_their_own_labels(self):
        a, b = (row("s", [1], {"temperature": t}).label for t in (1.2345678, 1.2345679))
        assert a != b


class TestFrame:
    def test_has_a_row_each_and_flat_columns(self):
        frame = small().frame()
        assert list(frame.stage[:4]) == ["teachers", "teachers/ensemble", "baseline", "distilled"]
        assert list(frame.cell[-3:]) == ["", "temperature=4", "temperature=0.5"]
        assert list(frame.temperature[-2:]) == [4.0, 0.5]
        assert frame.errors_mean[2] == pytest.approx(np.mean(BASELINE))
        assert frame.errors_std[2] == pytest.approx(np.std(BASELINE, ddof=1))
        assert frame.loc[4, ["members", "diverged"]].tolist() == [3, 1]
        assert frame.agreement_mean.isna().tolist() == [True] * 2 + [False] * 4
        assert {f"{m}_{s}" for m in METRICS for s in ("mean", "std")} <= set(frame.columns)
        assert {"parameters", "flops_per_example", "latency_ms", "seconds"} <= set(frame.columns)


def json_of(report):
    """What report.json gives to another program."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(host_files.to_json(page.content(report), indent=1), parse_constant=refuse)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


class TestJson:
    def test_is_the_rows_and_nothing_else(self):
        config = {"dataset": {"name": "digits"}, "stages": {"teachers": {"steps": 40}}}
        found = json_of(dataclasses.replace(small(), config=config))
        assert list(found) == [
            *("rows", "environment", "environments", "config", "examples", "calibration"),
            *("class_errors", "curves"),
        ]
        assert found["environment"] == found["environments"]["teachers"] == ENVIRONMENT
        assert found["examples"]["test"] == 797
        assert found["config"] == config
        assert list(found["rows"][4]) == [
            *("stage", "cell", "seeds", "members", "diverged", "metrics", "validation_errors"),
            *("parameters", "flops_per_example", "latency_ms", "seconds", "unlearned"),
        ]
        assert found["rows"][4]["cell"] == {"temperature": 4.0}
        assert found["rows"][4]["metrics"]["errors"]["values"] == [30.0, None, 34.0]
        nothing = {"mean": None, "std": None, "values": [None] * 3}
        assert found["rows"][0]["metrics"]["teacher_kl"] == nothing

    def test_is_strict_whatever_kind_of_number_comes(self):
        costs = {"parameters": np.int64(7), "flops_per_example": math.inf}
        costs |= {"latency_ms": np.float32("nan"), "seconds": jnp.float32(0.5)}
        odd = row("a", np.float32([3, 5]), {"temperature": np.float64(2)}, **costs)
        config = {"dataset": {"name": "digits", "a": (1, np.bool_(True)), "b": np.arange(2)}}
        found = json_of(a_report(odd, config=config))
        assert found["rows"][0]["parameters"] == 7 and found["rows"][0]["seconds"] == 0.5
        assert found["rows"][0]["latency_ms"] is found["rows"][0]["flops_per_example"] is None
        assert found["config"]["dataset"] == {"name": "digits", "a": [1, True], "b": [0, 1]}

    def test_has_the_missing_classes_and_the_calibration(self):
        bins = {"label": "a", "count": [[2.0]], "confidence": [[0.5]], "accuracy": [[None]]}
        found = {"missing": (a_missing(),), "calibration": (bins,)}
        written = json_of(a_report(row("a", [1, 2]), **found))
        assert written["missing_classes"] == [a_missing()] and written["calibration"] == [bins]

    def test_has_what_the_curves_and_the_soft_targets_show(self):
        whole, steps = study(), list(range(1000))
        long = {name: [[i, None] for i in steps] for name in ("loss", "validation_accuracy")}
        curves = whole.curves | {"teachers": long | {"step": steps}}
        found = json_of(dataclasses.replace(whole, curves=curves))
        student = whole.representatives[-1].label
        assert list(found["curves"]) == ["teachers", student]
        assert found["curves"][student]["loss"] == whole.curves[student]["loss"].tolist()
        thinned = found["curves"]["teachers"]
        assert len(thinned["step"]) == page.CURVE and thinned["step"][::199] == [0, 999]
        assert thinned["loss"] == [[step, None] for step in thinned["step"]]
        assert list(found["soft_targets"]) == ["labels", "distributions", "class_names"]
        expected = whole.soft_targets["distributions"]["teachers\nT = 4"].tolist()
        assert found["soft_targets"]["distributions"]["teachers\nT = 4"] == expected


class TestWrite:
    def test_leaves_only_whole_files(self, tmp_path):
        for _ in range(2):  # the second over the first
            report.write(small(), tmp_path)
            names = ["errors_against_parameters.png", "sweep_temperature.png"]
            pages = ["report.html", "report.json", "report.md"]
            assert files(tmp_path) == [*(f"figures/{n}" for n in names), *pages]

    def test_a_failure_keeps_the_old_file(self, tmp_path, monkeypatch):
        rows = [row("s", [1, 2], {"temperature": t}) for t in (1, 2, 3)]
        report.write(a_report(*rows[:2]), tmp_path)
        names, replace = files(tmp_path), os.replace
        assert len(names) == 5
        for name in names:
            before = (tmp_path / name).read_bytes()

            def fail(source, target, name=name):
                if target == tmp_path / name:
                    raise OSError("disk is full")
                replace(source, target)

            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", fail)
                with pytest.raises(OSError, match="disk is full"):
                    report.write(a_report(*rows), tmp_path)
            assert (tmp_path / name).read_bytes() == before and files(tmp_path) == names
            report.write(a_report(*rows[:2]), tmp_path)
        old = {name: (tmp_path / name).read_bytes() for name in names}
        report.write(a_report(*rows), tmp_path)
        changed = {name for name in names if (tmp_path / name).read_bytes() != old[name]}
        assert changed == {*names} - {"figures/errors_against_parameters.png"}  # of the best cell

    def test_what_json_cannot_say_is_an_error(self, tmp_path):
        with pytest.raises(TypeError):
            report.write(a_report(config={"name": {1}}), tmp_path)
        assert "report.json" not in files(tmp_path)

    def test_all_members_diverged(self, tmp_path):
        report.write(a_report(row("a", [None, None])), tmp_path)
        assert files(tmp_path) == ["report.html", "report.json", "report.md"]


class TestRepresentatives:
    def test_the_cell_with_the_fewest_validation_errors_of_each_stage_and_size(self):
        rows = [
            row("sweep", [1, 2], {"temperature": 1.0}, validation_errors=10),
            row("sweep", [7, 9], {"temperature": 2.0}, validation_errors=8),
            row("sweep", [3, 3], {"temperature": 4.0}, validation_errors=8),  # as few: the first
            row("sweep", [None, None], {"temperature": 8.0}),
            row("lost", [None]),
            row("t/ensemble", [5], {"ensemble_size": 1}, parameters=10),
            row("t/ensemble", [6], {"ensemble_size": 2}, parameters=20),
            row("plain", [3]),
        ]
        labels = [row.label for row in a_report(*rows).representatives]
        assert labels == [
            *("sweep temperature=2", "t/ensemble ensemble_size=1", "t/ensemble ensemble_size=2"),
            "plain",
        ]


def test_n_is_of_the_members_that_did_not_diverge():
    found = [row("a", [1, 2, 3]), row("b", [1, None, 3]), row("c", [None])]
    assert [each.n for each in found] == [3, 2, 0]
    assert rows.count_members(found[:1]) == "n = 3"
    assert rows.count_members(found[:2]) == "n = 2 to 3, 1 diverged"


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        ([{"temperature": 2}, {"temperature": 1}], "temperature"),
        (
            [{"temperature": 2, "soft_weight": 1}, {"temperature": 1, "soft_weight": 1}],
            "temperature",
        ),
        ([{"temperature": 1, "soft_weight": 1}, {"temperature": 2, "soft_weight": 2}], None),
        ([{"temperature": 1}], None),
        ([{}], None),
    ],
)
def test_a_stage_is_swept_along_exactly_one_axis(cells, found):
    own = [row("s", [1, 2], cell) for cell in cells]
    assert rows.swept([*own, row("other", [1])]) == ({found: own[::-1]} if found else {})
    assert rows.swept([row("s", [None], cell) for cell in cells]) == {}


def test_a_notebook_shows_the_table_and_what_it_is_of():
    text = small()._repr_markdown_()
    assert text.startswith(small().table())
    said = "\n\ndigits, test split of 797 examples; mean ± s.d. over n members\n\n"
    assert text.endswith(said + "\n\n".join(words.findings(small())))
