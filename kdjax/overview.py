"""What kdjax sees in a data set: its splits, classes, shapes, what is not read, and examples."""

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.data import SPLITS, Dataset, DatasetSpec, RawSet, fetch, load
from kdjax.rules import InputError, check, choose, shown

if TYPE_CHECKING:
    from kdjax import drawing

CLASSES, EXAMPLES, LINES = 12, 6, 40  # of the picture; lines of the table
LOOK = 64  # pixels to which images of many sizes are scaled to be looked at


@dataclass(frozen=True, eq=False, repr=False)
class Overview:
    """What kdjax sees in a data set; its text is printed, and a notebook shows its `figure`.

    Attributes:
      dataset: as it is read.
      counts: split to the number of examples of each class, [C].
      unlabelled: how many examples of the train split have no label.
      notes: what is not read, and what else the user must know, a line each.
    """

    dataset: Dataset
    counts: dict[str, np.ndarray]
    unlabelled: int
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        data, low_high = self.dataset, self.dataset.input_range or (np.nan, np.nan)
        sizes = ", ".join(f"{len(data.splits[s]):,} {s}" for s in SPLITS)
        unlabelled = f" ({self.unlabelled:,} of train unlabelled)" * bool(self.unlabelled)
        shape = ", ".join(map(str, data.input_shape))
        return "\n".join(
            [
                f"{data.name}: {data.classes:,} classes; {sizes}{unlabelled}",
                f"inputs: {data.input_dtype} [{shape}], from {low_high[0]:g} to {low_high[1]:g}",
                *_table(data.class_names, self.counts),
                *self.notes,
            ]
        )

    def figure(self) -> "drawing.Picture":
        """The first few training examples of the first few classes, a line each.

        Raises:
          InputError: the inputs are no images.
        """
        data = self.dataset
        if len(data.input_shape) != 3:
            raise InputError(
                f"inputs of {data.name!r} have the shape {data.input_shape}; only images [H, W, "
                "channels] can be drawn"
            )
        from kdjax import drawing  # here, for Matplotlib takes half a second

        lines = min(data.classes, CLASSES)
        figure = drawing.new_figure(EXAMPLES + 1.5, lines + 0.2)
        grid = figure.subplots(lines, EXAMPLES, squeeze=False)
        train = data.splits["train"]
        for c, row in enumerate(grid):
            places = np.flatnonzero(train.labels == c)[:EXAMPLES]
            images = fetch(train, places) if len(places) else ()
            for axes in row:
                axes.axis("off")
            for axes, image in zip(row, images, strict=False):
                drawing.picture(axes, image)
                axes.axis("on")
            name = drawing.short(data.class_names[c], str(c))
            row[0].set_title(f"{name} ({len(np.flatnonzero(train.labels == c))})", loc="left")
        return figure

    def _repr_png_(self) -> Any:
        return self.figure()._repr_png_() if len(self.dataset.input_shape) == 3 else None


def inspect(
    dataset: RawSet | str | Path, *, data_dir: str = "", cache_dir: str = "", **fields: Any
) -> Overview:
    """What kdjax sees in a data set, before anything is trained.

        print(kdjax.inspect("photographs/"))

    Args:
      dataset: as `arrays` makes it, or the name of a data set, as a config has it; a folder of
        images is known without the / at its end.
      data_dir, cache_dir: as of a config.
      **fields: of a config's dataset, such as `image_size` or `train_splits`.

    Raises:
      InputError: there is no such data set, or it is not what it must be.
    """
    known = {f.name: f.metadata["rule"] for f in dataclasses.fields(DatasetSpec) if f.metadata}
    for field, value in fields.items():
        choose([name for name in known if name != "name"], "the field of the dataset", field)
        check(known[field], field, value)
    value = dataset if isinstance(dataset, RawSet) else None
    if value is None and not isinstance(dataset, str | os.PathLike):
        raise InputError(
            f"dataset is {shown(dataset)}; it must be kdjax.arrays(...), or the name of a data set"
        )
    name = "arrays" if value is not None else os.fspath(dataset)  # type: ignore[arg-type]
    folder = name != "digits" and os.path.isdir(os.path.expanduser(name))
    slash = folder and not name.endswith("/")
    name += "/" * slash
    spec = DatasetSpec(name=check(known["name"], "dataset", name), **fields)
    found, notes = _load(spec, data_dir, cache_dir, value)
    labels = {split: its.labels for split, its in found.splits.items()}
    counts = {s: np.bincount(y[y >= 0], minlength=found.classes) for s, y in labels.items()}
    hint = (f"in a config, the name of this folder is {name}, with the / at its end",) * slash
    notes = (*found.notes, *notes, *hint)
    return Overview(found, counts, int((labels["train"] < 0).sum()), notes)


def _load(
    spec: DatasetSpec, data_dir: str, cache_dir: str, value: RawSet | None
) -> tuple[Dataset, tuple[str, ...]]:
    """The data set, and what must be done before it can be trained on."""
    if value is not None or not spec.name.endswith("/"):
        return load(spec, data_dir, cache_dir, value), ()
    from kdjax.data.folder import ManySizes  # here, for only folders need Pillow

    try:
        return load(spec, data_dir, cache_dir), ()
    except ManySizes as error:
        found = load(dataclasses.replace(spec, image_size=LOOK), data_dir, cache_dir)
        return found, (f"here scaled to {LOOK} x {LOOK}: {error}",)


def _table(names: tuple[str, ...], counts: dict[str, np.ndarray]) -> Iterable[str]:
    """A line for each class, the first ones where there are many."""
    width = max(map(len, (*names[:LINES], "class")))
    yield "  ".join(["class".ljust(width), *(f"{split:>10}" for split in SPLITS)])
    for c, name in enumerate(names[:LINES]):
        yield "  ".join([name.ljust(width), *(f"{counts[split][c]:>10,}" for split in SPLITS)])
    rest = len(names) - LINES
    if rest > 0:
        span = lambda n: f"{n.min():,}" if n.min() == n.max() else f"{n.min():,} to {n.max():,}"
        each = ", ".join(f"{span(counts[split][LINES:])} {split}" for split in SPLITS)
        yield f"and {rest:,} more classes of {each} each"
