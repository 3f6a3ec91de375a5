"""The figures of classes and of examples: missing ones, and mistakes."""

import numpy as np
from legible import assert_legible, curve_of, words
from reports import a_missing, a_mistake, a_report

from kdjax import figures


class TestMissingClasses:
    def test_curves_are_the_errors_and_lines_the_shifts(self):
        found, names = a_missing(), ("zero", "one", "two", "three", *map(str, range(4, 10)))
        both = (found, found | {"label": "other"})
        figure = figures.missing_classes(a_report(missing=both, class_names=names))
        axes = figure.axes[0]
        every, some = (np.array(found["curve"][k]) for k in ("errors", "missing_errors"))
        for i, values in enumerate((every, some, every - some)):
            np.testing.assert_allclose(curve_of(axes, i)[:, 1], values.mean(axis=0))
        for line, name in zip(axes.get_lines()[3:], ("matched", "best"), strict=True):
            numbers = [np.mean(found[name][k]) for k in ("shift", "errors", "missing_errors")]
            np.testing.assert_allclose(line.get_xydata(), [numbers[:2], numbers[::2]])
        assert axes.get_title() == "without_3\nmissing: three (n = 2)"
        assert len(figure.axes) == 2
        assert_legible(figure)

    def test_three_panels_leave_no_empty_axes(self):
        figure = figures.missing_classes(a_report(missing=(a_missing(),) * 3))
        assert len(figure.axes) == 3
        assert_legible(figure)


class TestMistakes:
    def test_says_what_each_example_is_what_most_say_and_how_many_they_are(self):
        found = a_mistake()
        figure = figures.mistakes(**found)
        assert [axes.get_title() for axes in figure.axes] == [
            *("0\nnot 8\n4 of 4", "1\nnot 7\n3 of 4", "2\nnot 1\n1 of 4")
        ]
        for axes, image in zip(figure.axes, found["images"], strict=True):
            np.testing.assert_allclose(axes.images[0].get_array() * image.max(), image[..., 0])
        assert "mistakes of students" in words(figure)
        assert_legible(figure)

    def test_one_net_is_not_counted_and_long_names_are_cut(self):
        names = tuple(f"a class with the long name {c}" for c in range(10))
        figure = figures.mistakes(**a_mistake() | {"members": 1, "class_names": names})
        assert "of 1" not in " ".join(words(figure))
        assert_legible(figure)
