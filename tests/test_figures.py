"""The figures: what is drawn is what was measured, nothing overlaps, bytes repeat."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from legible import assert_legible, band_of, curve_of, words
from PIL import Image
from reports import RATES, a_missing, a_report, row, small
from reports import study as make_study

from kdjax import drawing, figures


@pytest.fixture(scope="module")
def study():
    return make_study()


def test_a_report_has_every_figure_and_each_is_legible(study):
    drawn = figures.of_report(study)
    assert list(drawn) == [
        *("training_curves", "errors_against_parameters", "soft_targets"),
        "sweep_learning_rate",
    ]
    for figure in drawn.values():
        assert_legible(figure)


def test_a_report_without_numbers_has_no_figures():
    empty = {"a": {"step": [], "loss": [], "validation_accuracy": []}}
    assert figures.of_report(a_report(row("a", [None, None]), curves=empty)) == {}


class TestTrainingCurves:
    def test_mean_and_spread_of_each_stage(self, study):
        left, right = figures.training_curves(study.curves).axes
        for i, curve in enumerate(study.curves.values()):
            loss, wrong = curve["loss"], 100 * (1 - curve["validation_accuracy"])
            for axes, values in ((left, loss), (right, wrong)):
                mean, std = values.mean(axis=1), values.std(axis=1, ddof=1)
                np.testing.assert_allclose(curve_of(axes, i), np.array([curve["step"], mean]).T)
                low, high = band_of(axes, i)
                np.testing.assert_allclose(high, mean + std)
                least = np.where(mean > std, mean - std, values.min(axis=1))
                np.testing.assert_allclose(low, least)

    def test_says_n_and_units_and_that_losses_do_not_compare(self, study):
        figure = figures.training_curves(study.curves)
        assert {"teachers (n = 3)", "rate_0.01 (n = 4)", "validation errors (%)"} <= {
            *words(figure)
        }
        assert "different kinds do not compare" in figure.axes[0].get_ylabel()
        assert figure.axes[0].get_yscale() == "log"

    def test_diverged_members_are_counted_and_left_out(self):
        curve = {"step": [1, 2], "loss": [[4.0, 2.0, 9.0], [3.0, 1.0, None]]}
        curve["validation_accuracy"] = [[0.5, 0.7, 0.1], [0.8, 0.6, None]]
        figure = figures.training_curves({"a": curve})
        assert "a (n = 3, 1 diverged)" in words(figure)
        np.testing.assert_allclose(curve_of(figure.axes[0]), [[1, 5], [2, 2]])
        np.testing.assert_allclose(curve_of(figure.axes[1])[1], [2, 30])

    def test_a_logarithm_only_of_what_has_one(self):
        curve = {"step": [1, 2], "loss": [[0.0], [0.0]], "validation_accuracy": [[0.5], [1.0]]}
        assert {a.get_yscale() for a in figures.training_curves({"a": curve}).axes} == {"linear"}

    def test_all_diverged_one_step_and_many_stages(self, study):
        lost = {"step": [1], "loss": [[None, None]], "validation_accuracy": [[None, None]]}
        one = {"step": [1], "loss": [[1.0, 2.0]], "validation_accuracy": [[0.9, 0.8]]}
        curves = {"lost": lost, "one": one}
        assert_legible(figures.training_curves(curves))
        figure = figures.training_curves(
            {f"{k}_{i}": v for i in range(5) for k, v in curves.items()}
        )
        assert_legible(figure)
        styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
        assert len(styles) == 10


class TestErrorsAgainstParameters:
    def test_a_point_a_bar_and_a_label_for_each_row(self, study):
        figure = figures.errors_against_parameters(study.rows)
        [axes] = figure.axes
        points = {tuple(bar.lines[0].get_xydata()[0]): bar for bar in axes.containers}
        assert sorted(y for _, y in points) == sorted(r.mean("errors") for r in study.rows)
        for name, size in (("teachers", 4810), ("teachers/ensemble", 14430)):
            bar = points[size, study.row(name).mean("errors")]
            segments = [s for lines in bar.lines[2] for s in lines.get_segments()]
            if study.row(name).std("errors") is not None:
                half = np.ptp(segments[0][:, 1]) / 2
                assert half == pytest.approx(study.row(name).std("errors"))
        labels = [f"{r.label} (n = {r.members})" for r in study.rows if not r.is_ensemble]
        assert {*labels, "teachers/ensemble"} <= {*words(figure)}
        assert axes.get_xscale() == "log" and "parameters" in axes.get_xlabel()

    def test_rows_of_one_size_stand_side_by_side(self, study):
        figure = figures.errors_against_parameters(study.rows)
        xs = [bar.lines[0].get_xdata()[0] for bar in figure.axes[0].containers]
        assert len(set(xs)) == len(xs)
        students = sorted(x for x in xs if x < 1000)
        assert np.exp(np.log(students).mean()) == pytest.approx(610)

    def test_an_arrow_from_the_ensemble_to_the_best_student(self, study):
        arrows = lambda rows, taught=("students",): [
            (a.xyann[1], a.xy[1])
            for a in figures.errors_against_parameters(rows, taught).axes[0].texts
            if not a.get_text()
        ]
        best = min(r.mean("errors") for r in study.rows if r.stage == "students")
        assert arrows(study.rows) == [(study.row("teachers/ensemble").mean("errors"), best)]
        half = row("teachers/ensemble", [99], {"ensemble_size": 2}, parameters=2 * 4810)
        assert arrows([*study.rows, half]) == arrows(study.rows)
        assert arrows([*study.rows, row("others/ensemble", [99])]) == []
        assert arrows([r for r in study.rows if not r.is_ensemble]) == []
        assert arrows(study.rows, taught=("others",)) == []
        [_, drawn] = list(figures.of_report(study).values())[:2]
        assert "" in [text.get_text() for text in drawn.axes[0].texts]

    def test_many_cells_share_a_label(self):
        cells = [{"temperature": t, "soft_weight": w} for t in (1, 2, 4, 8) for w in (0.1, 0.5, 1)]
        sweep = [row("sweep", [30 + i, 33 + i], c, compared=True) for i, c in enumerate(cells)]
        figure = figures.errors_against_parameters([*small().rows[:4], *sweep], small().taught)
        assert "sweep (12 cells, n = 2)" in words(figure)
        assert sum("sweep" in text for text in words(figure)) == 1
        assert_legible(figure)

    def test_one_row_and_equal_rows_and_diverged_rows(self):
        for rows in ([[31, 30]], [[31, 30]] * 6, [[31], [None]]):
            rows = [row(f"stage_{i}", errors) for i, errors in enumerate(rows)]
            assert_legible(figures.errors_against_parameters(rows))


class TestSoftTargets:
    def test_bars_are_the_distribution_and_pictures_the_images(self, study):
        targets = study.soft_targets
        figure = figures.soft_targets(targets)
        grid = np.reshape(figure.axes, (3, 3))
        for e in range(3):
            shown = grid[e, 0].images[0].get_array()
            np.testing.assert_allclose(shown * np.ptp(targets["images"][e]), targets["images"][e])
            for t in range(2):
                heights = [bar.get_height() for bar in grid[e, 1 + t].patches]
                np.testing.assert_allclose(heights, targets["probabilities"][t][e])
                blue = [
                    i
                    for i, b in enumerate(grid[e, 1 + t].patches)
                    if np.allclose(b.get_facecolor()[:3], (0, 0x72 / 255, 0xB2 / 255))
                ]
                assert blue == [targets["labels"][e]]
        assert {"T = 1", "T = 4", f"label: {targets['labels'][0]}"} <= {*words(figure)}

    def test_no_pictures(self, study):
        figure = figures.soft_targets(study.soft_targets | {"images": None})
        assert len(figure.axes) == 3 * 2 and not any(axes.images for axes in figure.axes)
        assert_legible(figure)

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_channels(self, study, channels):
        images = np.repeat(study.soft_targets["images"][..., None], channels, axis=-1)
        figure = figures.soft_targets(study.soft_targets | {"images": images})
        shape = figure.axes[0].images[0].get_array().shape
        assert shape == ((8, 8, 3) if channels == 3 else (8, 8))

    def test_of_many_classes_the_likely_ones_and_the_label(self):
        p = np.full((1, 1, 40), 0.5 / 38)
        p[..., 7], p[..., 3] = 0.5, 0.0
        names = [f"phone {c}" for c in range(40)]
        targets = {"images": None, "labels": [3], "class_names": names, "temperatures": [1.0]}
        figure = figures.soft_targets(targets | {"probabilities": p})
        shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert len(shown) == 10 and shown[0] == "phone 7" and shown[-1] == "phone 3"
        assert_legible(figure)


class TestSweep:
    def test_mean_and_band_against_the_axis_in_order(self, study):
        figure = figures.sweep(study.rows[::-1], ["students"], "learning_rate")
        [axes] = figure.axes
        values = np.array([r.metrics["errors"]["values"] for r in study.rows[2:]])
        np.testing.assert_allclose(curve_of(axes), np.array([RATES, values.mean(axis=1)]).T)
        np.testing.assert_allclose(band_of(axes)[1], values.mean(axis=1) + values.std(1, ddof=1))
        assert axes.get_xscale() == "log" and axes.get_xlabel() == "learning rate"
        assert [t.get_text() for t in axes.get_xticklabels()] == ["0.002", "0.01", "0.05"]
        assert "students (n = 4)" in words(figure)

    def test_stages_that_sweep_the_same_axis_share_a_figure(self):
        small = [row("small", [300 - t, 310 - t], {"temperature": t}) for t in (1, 2, 20)]
        large = [row("large", [20 + t, 22 + t, 24 + t], {"temperature": t}) for t in (1, 5, 20)]
        figure = figures.sweep(small + large, ["small", "large"], "temperature")
        [axes] = figure.axes
        np.testing.assert_allclose(curve_of(axes, 0)[:, 1], [304, 303, 285])
        np.testing.assert_allclose(curve_of(axes, 1)[:, 0], [1, 5, 20])
        assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "5", "20"]
        assert {"small (n = 2)", "large (n = 3)"} <= {*words(figure)}
        assert axes.get_yscale() == "log"
        assert_legible(figure)

    def test_linear_within_a_factor_of_eight_or_from_zero(self):
        for values, scale in (((1, 8), "linear"), ((1, 9), "log"), ((0, 9), "linear")):
            rows = [row("s", [3, 4], {"soft_weight": v}) for v in values]
            assert figures.sweep(rows, ["s"], "soft_weight").axes[0].get_xscale() == scale

    def test_diverged_members(self):
        errors = {1: [30, 31, 32], 2: [30, None, 34], 3: [None, None, None]}
        rows = [row("s", e, {"temperature": t}) for t, e in errors.items()]
        figure = figures.sweep(rows, ["s"], "temperature")
        assert curve_of(figure.axes[0])[:2, 1].tolist() == [31, 32]
        assert np.ma.masked_invalid(curve_of(figure.axes[0]))[2, 1] is np.ma.masked
        assert "s (n = 0 to 3)" in words(figure)

    @pytest.mark.parametrize(
        ("cells", "found"),
        [
            ([{"temperature": 1}, {"temperature": 2}], {"temperature": ["s"]}),
            (
                [{"temperature": 1, "soft_weight": 1}, {"temperature": 2, "soft_weight": 1}],
                {"temperature": ["s"]},
            ),
            ([{"temperature": 1, "soft_weight": 1}, {"temperature": 2, "soft_weight": 2}], {}),
            ([{"temperature": 1}], {}),
            ([{}], {}),
        ],
    )
    def test_a_stage_is_swept_along_exactly_one_axis(self, cells, found):
        assert figures.swept([row("s", [1, 2], cell) for cell in cells]) == found
        assert figures.swept([row("s", [None], cell) for cell in cells]) == {}


class TestMissingClasses:
    def test_curves_are_the_errors_and_lines_the_shifts(self):
        found = a_missing()
        figure = figures.missing_classes([found, found | {"label": "other"}])
        axes = figure.axes[0]
        every, some = (np.array(found["curve"][k]) for k in ("errors", "missing_errors"))
        for i, values in enumerate((every, some, every - some)):
            np.testing.assert_allclose(curve_of(axes, i)[:, 1], values.mean(axis=0))
        for line, name in zip(axes.get_lines()[3:], ("matched", "best"), strict=True):
            numbers = [np.mean(found[name][k]) for k in ("shift", "errors", "missing_errors")]
            np.testing.assert_allclose(line.get_xydata(), [numbers[:2], numbers[::2]])
        assert axes.get_title() == "without_3\nmissing: 3 (n = 2)"
        assert len(figure.axes) == 2
        assert_legible(figure)

    def test_many_panels_are_in_rows_of_three(self):
        figure = figures.missing_classes([a_missing()] * 4)
        assert len(figure.axes) == 4
        assert_legible(figure)


class TestSave:
    def test_the_bytes_repeat_and_the_size_is_that_of_160_dpi(self, study, tmp_path):
        for name in ("a.png", "b.png"):
            figures.save(figures.training_curves(study.curves), tmp_path / name)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        figures.save(figures.sweep(study.rows, ["students"], "learning_rate"), tmp_path / "b.png")
        with Image.open(io.BytesIO((tmp_path / "b.png").read_bytes())) as image:
            image.load()
            assert image.size == (960, 640) and len(image.convert("RGB").getcolors(10**6)) > 10
        assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]

    def test_a_failure_leaves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            figures.save(drawing.new_figure(1, 1), tmp_path / "a.png")
        assert os.listdir(tmp_path) == []

    def test_no_display_and_no_pyplot(self, tmp_path):
        code = (
            "import sys; from reports import small; from kdjax import report;"
            "report.write(small(), sys.argv[1]); print('matplotlib.pyplot' in sys.modules)"
        )
        environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__), "MPLBACKEND": "TkAgg"}
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(tmp_path)],
            **{"env": environment, "capture_output": True, "text": True, "check": True},
        )
        assert run.stdout.strip() == "False"
