"""The figures: what is drawn is what was measured, and nothing overlaps."""

import dataclasses

import matplotlib.colors
import numpy as np
import pytest
from legible import assert_legible, band_of, curve_of, texts, words
from reports import RATES, a_report, row
from reports import study as make_study

from kdjax import figures


@pytest.fixture(scope="module")
def study():
    return make_study()


@pytest.fixture(scope="module")
def drawn(study):
    return figures.of_report(study)


def test_every_public_name_is_there():
    assert all(hasattr(figures, name) for name in figures.__all__)
    assert sorted(figures.__all__) == figures.__all__


def test_a_report_has_every_figure_and_each_is_legible(drawn):
    assert list(drawn) == [
        *("errors_against_parameters", "sweep_learning_rate", "soft_targets", "reliability"),
        "training_curves",
    ]
    for figure in drawn.values():
        assert_legible(figure)


def test_a_report_without_numbers_has_no_figures_and_says_so():
    curve = {"step": [1], "loss": [[None] * 2], "validation_accuracy": [[None] * 2]}
    empty = a_report(row("a", [None, None]), curves={"a": curve})
    assert figures.of_report(empty) == {}
    for draw, lacking in (
        (figures.training_curves, "curves"),
        (figures.errors_against_parameters, "errors"),
        (figures.missing_classes, "missing"),
        (figures.reliability, "calibration"),
    ):
        with pytest.raises(ValueError, match=f"the report has no {lacking} to draw"):
            draw(empty)


def test_an_ensemble_of_unknown_size_is_no_point():
    unknown = row("logits/ensemble", [20], parameters=np.nan)
    figure = figures.errors_against_parameters(a_report(unknown, row("distilled", [44, 40])))
    assert_legible(figure)
    assert not any("logits" in each for each in words(figure))


def test_a_stage_has_one_colour_in_all_figures(drawn):
    colours = {line.get_color() for line in drawn["sweep_learning_rate"].axes[0].lines}
    curves = drawn["training_curves"].axes[0].get_lines()
    panels = drawn["reliability"].axes
    assert colours == {curves[1].get_color()} != {curves[0].get_color()}
    assert panels[2].collections[-1].get_facecolor()[0, :3] == pytest.approx(
        matplotlib.colors.to_rgb(curves[1].get_color())
    )


class TestTrainingCurves:
    def test_mean_and_spread_of_each_stage(self, study, drawn):
        left, right = drawn["training_curves"].axes
        shown = [row.label for row in study.representatives if not row.is_ensemble]
        assert len(shown) == len(left.get_lines()) == 2
        for i, label in enumerate(shown):
            curve = study.curves[label]
            loss, wrong = curve["loss"], 100 * (1 - curve["validation_accuracy"])
            for axes, values in ((left, loss), (right, wrong)):
                mean, std = values.mean(axis=1), values.std(axis=1, ddof=1)
                np.testing.assert_allclose(curve_of(axes, i), np.array([curve["step"], mean]).T)
                low, high = band_of(axes, i)
                np.testing.assert_allclose(high, mean + std)
                least = np.where(mean > std, mean - std, values.min(axis=1))
                np.testing.assert_allclose(low, least)
                assert axes.get_yscale() == "log"

    def test_says_n_and_units_and_that_losses_do_not_compare(self, study, drawn):
        figure = drawn["training_curves"]
        assert {"teachers (n = 3)", "validation errors (%)"} <= {*words(figure)}
        assert f"{study.representatives[-1].label} (n = 4)" in words(figure)
        assert "kinds do not compare" in figure.axes[0].get_ylabel()
        assert figure.axes[0].get_yscale() == "log"

    def test_diverged_members_are_counted_and_left_out(self):
        curve = {"step": [1, 2], "loss": [[4.0, 2.0, 9.0], [3.0, 1.0, None]]}
        curve["validation_accuracy"] = [[0.5, 0.7, 0.1], [0.8, 0.6, None]]
        figure = figures.training_curves(a_report(row("a", [1, 2, None]), curves={"a": curve}))
        assert "a (n = 2, 1 diverged)" in words(figure)
        np.testing.assert_allclose(curve_of(figure.axes[0]), [[1, 5], [2, 2]])
        np.testing.assert_allclose(curve_of(figure.axes[1])[1], [2, 30])

    def test_a_band_on_a_linear_axis_is_one_sd_to_both_sides(self):
        curve = {"step": [1, 2], "loss": [[0.0, 2.0], [1.0, 1.0]]}
        curve["validation_accuracy"] = [[1.0, 0.9], [1.0, 0.9]]
        figure = figures.training_curves(a_report(row("a", [1, 2]), curves={"a": curve}))
        assert figure.axes[1].get_yscale() == "linear"
        low, high = band_of(figure.axes[1])
        np.testing.assert_allclose([low, high], [[5 - np.sqrt(50)] * 2, [5 + np.sqrt(50)] * 2])

    def test_one_member_has_no_band(self):
        curve = {"step": [1, 2], "loss": [[2.0], [1.0]], "validation_accuracy": [[0.5], [0.6]]}
        figure = figures.training_curves(a_report(row("a", [1]), curves={"a": curve}))
        for axes in figure.axes:
            assert not any(band.get_paths() for band in axes.collections)

    def test_a_logarithm_only_of_what_has_one(self):
        curve = {"step": [1, 2], "loss": [[0.0], [0.0]], "validation_accuracy": [[0.5], [1.0]]}
        figure = figures.training_curves(a_report(row("a", [0]), curves={"a": curve}))
        assert {axes.get_yscale() for axes in figure.axes} == {"linear"}

    def test_one_step_and_many_stages(self):
        one = {"step": [1], "loss": [[1.0, 2.0]], "validation_accuracy": [[0.9, 0.8]]}
        for count in (1, 10):
            names = [f"stage_{i}" for i in range(count)]
            rows = [row(name, [1, 2]) for name in names]
            figure = figures.training_curves(a_report(*rows, curves=dict.fromkeys(names, one)))
            assert_legible(figure)
            lines = figure.axes[0].get_lines()
            assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == count


class TestErrorsAgainstParameters:
    def test_a_point_a_bar_and_a_name_for_each_stage_at_its_true_size(self, study, drawn):
        figure = drawn["errors_against_parameters"]
        [axes] = figure.axes
        points = {tuple(bar.lines[0].get_xydata()[0]): bar for bar in axes.containers}
        shown = study.representatives
        assert sorted(points) == sorted((r.parameters, r.mean("errors")) for r in shown)
        for each in shown:
            bar = points[each.parameters, each.mean("errors")]
            segments = [s for lines in bar.lines[2] for s in lines.get_segments()]
            if each.std("errors") is not None:
                assert np.ptp(segments[0][:, 1]) / 2 == pytest.approx(each.std("errors"))
        names = [
            f"{r.label}: {r.mean('errors'):.1f} ± {r.std('errors'):.1f} (n = {r.members})"
            for r in shown
            if not r.is_ensemble
        ]
        together = study.row("teachers/ensemble").mean("errors")
        assert {*names, f"teachers/ensemble: {together:g}"} <= {
            w.replace("\n", " ") for w in words(figure)
        }
        assert axes.get_xscale() == "log" and "parameters" in axes.get_xlabel()
        assert axes.get_ylabel().startswith("test errors (of 797)")

    def test_of_rows_of_one_size_the_bars_show_by_their_caps(self):
        rows = [row(f"s{i}", [30 + i, 31]) for i in range(3)] + [row("large", [9, 8], parameters=9)]
        [axes] = figures.errors_against_parameters(a_report(*rows)).axes
        caps = [bar.lines[1][0].get_markersize() for bar in axes.containers]
        assert caps[0] < caps[1] < caps[2] and caps[3] == caps[0]
        assert {bar.lines[0].get_xdata()[0] for bar in axes.containers} == {2410, 9}

    def test_an_arrow_from_the_ensemble_to_the_best_student(self, study):
        def arrows(rows, **fields):
            report = dataclasses.replace(study, rows=tuple(rows), **fields)
            texts = figures.errors_against_parameters(report).axes[0].texts
            return [(a.xyann[1], a.xy[1]) for a in texts if not a.get_text()]

        best = min(r.mean("errors") for r in study.rows if r.stage == "students")
        assert arrows(study.rows) == [(study.row("teachers/ensemble").mean("errors"), best)]
        half = row("teachers/ensemble", [99], {"ensemble_size": 2}, parameters=2 * 4810)
        assert arrows([*study.rows, half]) == arrows(study.rows)
        assert arrows([*study.rows, row("others/ensemble", [99])]) == []
        assert arrows([r for r in study.rows if not r.is_ensemble]) == []
        assert arrows(study.rows, taught=frozenset()) == []

    def test_names_stand_in_the_order_of_their_points_and_as_near_as_there_is_room(self):
        errors = {"labels": 143, "one": 125, "two": 112, "six": 109, "matching": 109.5}
        rows = [row(name, [e - 5, e + 5]) for name, e in errors.items()]
        figure = figures.errors_against_parameters(a_report(*rows))
        assert_legible(figure)
        [axes] = figure.axes
        names = {text.get_text().split(":")[0]: text.xyann[1] for text in axes.texts}
        assert sorted(names, key=names.get) == ["six", "matching", "two", "one", "labels"]
        low, high = axes.get_ylim()
        for name in ("labels", "one"):
            assert names[name] == pytest.approx((errors[name] - low) / (high - low))

    def test_the_ensembles_of_a_stage_are_on_a_line(self):
        rows = [
            row("nets/ensemble", [40 - k], {"ensemble_size": k}, parameters=2410 * k)
            for k in (3, 1, 2, 5, 4)
        ]
        figure = figures.errors_against_parameters(a_report(row("nets", [44, 40]), *rows))
        assert {f"{r.label}: {r.mean('errors'):g}" for r in rows} <= {*words(figure)}
        (line,) = (line for line in figure.axes[0].lines if len(line.get_xdata()) == 5)
        assert list(line.get_ydata()) == [39, 38, 37, 36, 35]
        assert_legible(figure)

    def test_long_names_are_broken(self):
        cell = dict.fromkeys(("temperature", "learning_rate", "soft_weight", "weight_decay"), 0.125)
        rows = [row(f"a_student_of_a_long_name_{i}", [40 + i, 44], cell) for i in range(6)]
        figure = figures.errors_against_parameters(a_report(*rows, row("t/ensemble", [20])))
        assert sum(text.count("\n") >= 2 for text in words(figure)) == 6
        assert_legible(figure)

    def test_one_row_and_equal_rows_and_many_rows_and_diverged_rows(self):
        for rows in ([[31, 30]], [[31, 30]] * 6, [[3 + i, 4] for i in range(25)], [[31], [None]]):
            rows = [row(f"stage_{i}", errors) for i, errors in enumerate(rows)]
            assert_legible(figures.errors_against_parameters(a_report(*rows)))


class TestReliability:
    def test_points_are_the_bins_and_bars_the_spread(self, study, drawn):
        panels = drawn["reliability"].axes
        assert len(panels) == len(study.calibration) == 3
        for axes, found in zip(panels, study.calibration, strict=True):
            n, x, y = (np.array(found[k], float) for k in ("count", "confidence", "accuracy"))
            pooled = np.array([np.nansum(n * v, axis=0) for v in (x, y)])[:, n.any(axis=0)]
            middle = (pooled / n.sum(axis=0)[n.any(axis=0)]).T
            np.testing.assert_allclose(axes.collections[-1].get_offsets(), middle)
            bars = [bar for bar in axes.collections[0].get_segments() if bar.size]
            full = n.all(axis=0) & (len(n) > 1)
            std = y[:, full].std(axis=0, ddof=1) if len(n) > 1 else []
            expected = middle[full[n.any(axis=0)], 1] + [[-1], [1]] * np.array(std)
            drawn = np.reshape([bar[:, 1] for bar in bars], (-1, 2)).T
            np.testing.assert_allclose(drawn, np.clip(expected, 0, 1))

    def test_says_n_and_the_calibration_error(self, study, drawn):
        titles = [axes.get_title() for axes in drawn["reliability"].axes]
        ece = study.row("teachers").metrics["ece"]
        assert titles[0] == f"teachers\nn = 3, ECE {ece['mean']:.3f} ± {ece['std']:.3f}"
        assert titles[1].startswith("teachers/ensemble\nn = 1, ECE ")


class TestSoftTargets:
    def test_bars_are_the_distribution_and_pictures_the_images(self, study, drawn):
        targets, figure = study.soft_targets, drawn["soft_targets"]
        grid = np.reshape(figure.axes, (3, 3))
        for e in range(3):
            shown = grid[e, 0].images[0].get_array()
            np.testing.assert_allclose(shown * np.ptp(targets["images"][e]), targets["images"][e])
            for t, distribution in enumerate(targets["distributions"].values()):
                heights = [bar.get_height() for bar in grid[e, 1 + t].patches]
                np.testing.assert_allclose(heights, distribution[e])
                assert grid[e, 1 + t].get_ylim()[1] >= max(heights)
                blue = [
                    i
                    for i, b in enumerate(grid[e, 1 + t].patches)
                    if np.allclose(b.get_facecolor()[:3], (0, 0x72 / 255, 0xB2 / 255))
                ]
                assert blue == [targets["labels"][e]]
        titles = {"teachers\nT = 1", "teachers\nT = 4", f"label: {targets['labels'][0]}"}
        assert titles <= {*words(figure)}

    def test_columns_share_a_scale_if_it_shows_both(self):
        p = {"a": [[0.6, 0.4]], "b": [[0.5, 0.5]], "flat": [[0.1] * 2], "c": [[0.15, 0.0]]}
        axes = figures.soft_targets(None, [0], p).axes
        assert [round(a.get_ylim()[1], 6) for a in axes] == [0.7, 0.7, 0.2, 0.2]

    def test_no_pictures(self, study):
        figure = figures.soft_targets(**study.soft_targets | {"images": None})
        assert len(figure.axes) == 3 * 2 and not any(axes.images for axes in figure.axes)
        assert_legible(figure)

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_channels(self, study, channels):
        images = np.repeat(study.soft_targets["images"][..., None], channels, axis=-1)
        figure = figures.soft_targets(**study.soft_targets | {"images": images})
        shape = figure.axes[0].images[0].get_array().shape
        assert shape == ((8, 8, 3) if channels == 3 else (8, 8))

    def test_of_many_classes_the_likely_ones_and_the_label(self):
        p = np.full((1, 40), 0.5 / 38)
        p[:, 7], p[:, 3] = 0.5, 0.0
        names = [f"phone {c}" for c in range(40)]
        figure = figures.soft_targets(None, [3], {"T = 1": p}, names)
        shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert len(shown) == 10 and shown[0] == "phone 7" and shown[-1] == "phone 3"
        assert_legible(figure)


class TestSweep:
    def test_mean_and_band_against_the_axis_in_order(self, study):
        figure = figures.sweep(dataclasses.replace(study, rows=study.rows[::-1]), "learning_rate")
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
        figure = figures.sweep(a_report(*small, *large), "temperature")
        [axes] = figure.axes
        np.testing.assert_allclose(curve_of(axes, 0)[:, 1], [304, 303, 285])
        np.testing.assert_allclose(curve_of(axes, 1)[:, 0], [1, 5, 20])
        assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "5", "20"]
        assert {"small (n = 2)", "large (n = 3)"} <= {*words(figure)}
        assert axes.get_yscale() == "log"
        assert_legible(figure)

    def test_a_logarithmic_axis_of_one_decade_has_enough_ticks(self):
        values = {1: [90, 110], 2: [30, 34], 4: [9, 10]}
        rows = [row(s, e, {"temperature": t}) for t, e in values.items() for s in ("a", "b")]
        figure = figures.sweep(a_report(*rows), "temperature")
        shown = [t.get_text() for t in figure.axes[0].get_yticklabels() if t in texts(figure)]
        assert shown == ["10", "20", "50", "100"]

    def test_linear_within_a_factor_of_eight_or_from_zero(self):
        for values, scale in (((1, 8), "linear"), ((1, 9), "log"), ((0, 9), "linear")):
            rows = [row("s", [3, 4], {"soft_weight": v}) for v in values]
            assert figures.sweep(a_report(*rows), "soft_weight").axes[0].get_xscale() == scale

    def test_diverged_members(self):
        errors = {1: [30, 31, 32], 2: [30, None, 34], 3: [None, None, None]}
        rows = [row("s", e, {"temperature": t}) for t, e in errors.items()]
        figure = figures.sweep(a_report(*rows), "temperature")
        assert curve_of(figure.axes[0])[:2, 1].tolist() == [31, 32]
        assert np.ma.masked_invalid(curve_of(figure.axes[0]))[2, 1] is np.ma.masked
        assert "s (n = 0 to 3, 4 diverged)" in words(figure)
        np.testing.assert_allclose(band_of(figure.axes[0])[1], [32, 32 + np.sqrt(8)])

    def test_an_axis_that_is_not_swept_is_refused_with_those_that_are(self, study):
        with pytest.raises(ValueError, match=r"swept along 'temperature'.*; swept: learning_rate"):
            figures.sweep(study, "temperature")
