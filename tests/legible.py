"""What can be read in a figure."""

import numpy as np
from matplotlib.text import Text


def texts(figure):
    """Every text that is drawn; a tick beyond the limits is not."""
    beyond = set()
    for axis in (a for axes in figure.axes for a in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [t for t in axis.get_major_ticks() if not low <= t.get_loc() <= high]
        beyond |= {tick.label1 for tick in ticks}
    drawn = [t for t in figure.findobj(Text) if t.get_visible() and t not in beyond]
    return [text for text in drawn if text.get_text().strip()]


def words(figure):
    return [t.get_text() for t in texts(figure)]


def assert_legible(figure):
    """Every text is inside the figure and none lies on another."""
    figure.draw_without_rendering()
    page, shown = figure.bbox.padded(1), []
    for text in texts(figure):
        box = Text.get_window_extent(text)  # of an annotation, without its line
        assert page.contains(*box.min) and page.contains(*box.max), text
        on = [other for other, there in shown if box.overlaps(there)]
        assert not on, f"{text} lies on {on}"
        shown.append((text, box))


def curve_of(axes, i=0):
    return axes.get_lines()[i].get_xydata()


def band_of(axes, i=0):
    """The lower and upper edge of a band, at each x."""
    vertices = axes.collections[i].get_paths()[0].vertices
    return np.array(
        [
            [f(vertices[vertices[:, 0] == x, 1]) for f in (min, max)]
            for x in np.unique(vertices[:, 0])
        ]
    ).T
