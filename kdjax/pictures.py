"""Pictures of examples: their soft targets, and those that nets get wrong."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kdjax import drawing
from kdjax.drawing import COLOURS, tidy

SHOWN = 10  # most classes of one bar chart


def soft_targets(
    images: np.ndarray | None,
    labels: Sequence[int],
    distributions: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Examples beside distributions over their classes, a column for each.

    Args:
      images: [E, H, W] or [E, H, W, channels]; None shows none.
      labels: [E].
      distributions: {title: [E, C] probabilities}. Of many classes, the label and those of
        highest probability are shown. Columns share a scale where that is within a factor of two.
      class_names: [C]; numbers if None.
    """
    p = np.array(list(distributions.values()))
    numbers = [str(c) for c in range(p.shape[2])]
    names = np.array([*map(drawing.short, class_names or numbers, numbers)])
    pictures, longest = int(images is not None), max(map(len, names))
    height = 1.05 + 0.07 * longest * (longest > 2)
    figure = drawing.new_figure(0.6 + pictures + 2.1 * len(p), 0.7 + height * len(labels))
    widths = [0.45] * pictures + [1] * len(p)
    grid = figure.subplots(len(labels), len(widths), squeeze=False, width_ratios=widths)
    most = p.max(axis=(1, 2))
    top = [np.ceil(10 * most[most <= 2 * m].max() + 0.1) / 10 for m in most]
    for e, (row, label) in enumerate(zip(grid, labels, strict=True)):
        if images is not None:
            drawing.picture(row[0], np.asarray(images[e]))
        row[pictures].set_ylabel("probability", fontsize=8)
        row[0].set_ylabel(f"label: {names[label]}" + "\nprobability" * (not pictures), fontsize=8)
        shown = np.arange(len(names))
        if len(names) > SHOWN:
            order = np.argsort(-p[:, e].mean(axis=0), kind="stable")
            shown = np.append(order[order != label][: SHOWN - 1], label)
        colours = [COLOURS[0] if c == label else COLOURS[4] for c in shown]
        for axes, distribution, high in zip(row[pictures:], p[:, e], top, strict=True):
            axes.bar(range(len(shown)), distribution[shown], color=colours)
            tidy(axes)
            axes.grid(visible=False, axis="x")
            axes.set_yticks([0, high / 2, high], [f"{v:g}" for v in (0, high / 2, high)])
            axes.set_xticks(range(len(shown)), names[shown])
            axes.tick_params(labelsize=8)
            axes.tick_params("x", length=0, rotation=90 * (longest > 2))
            axes.set_ylim(0, high)
    for axes, title in zip(grid[0, pictures:], distributions, strict=True):
        axes.set_title("\n".join(textwrap.fill(line, 26) for line in title.split("\n")), fontsize=9)
    figure.supxlabel("class (blue: the label)", fontsize=9)
    return figure


def mistakes(
    images: np.ndarray,
    labels: Sequence[int],
    answers: Sequence[int],
    counts: Sequence[int],
    members: int,
    class_names: Sequence[str],
    label: str = "",
) -> Figure:
    """Examples that members of one row get wrong, with what they are and what the members say.

    Args:
      images: [E, H, W, channels].
      labels, answers: [E] classes: the true one, and the commonest wrong answer.
      counts: [E] how many of the `members` are wrong.
      class_names: [C].
      label: of the row.
    """
    figure, each = drawing.panels(len(labels), columns=6, height=1.45)
    name = lambda c: textwrap.shorten(drawing.short(class_names[c], str(c)), 16, placeholder="…")
    rows = zip(each, images, labels, answers, counts, strict=True)
    for axes, image, truth, answer, count in rows:
        drawing.picture(axes, np.asarray(image))
        wrong = f"\n{count} of {members}" * (members > 1)
        axes.set_title(f"{name(truth)}\nnot {name(answer)}{wrong}", fontsize=8)
    if label:
        figure.suptitle(f"mistakes of {textwrap.shorten(label, 80)}", fontsize=9)
    return figure
