"""What a user sees while a stage trains."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

QUIET = 60  # seconds between two lines where there is no terminal
LINE = "{desc}: {n_fmt} of {total_fmt} steps in {elapsed}, {remaining} left{postfix}"


class Progress:
    """A bar with loss, validation accuracy and time left; without a terminal, a line of them every
    minute.

    Args:
      name: of the stage.
      total, done: steps, in all and before this run.
    """

    def __init__(self, name: str, total: int, done: int):
        shown = dict(total=total, initial=done, desc=name, unit="step")
        if not sys.stderr.isatty():
            apart = dict.fromkeys(("mininterval", "maxinterval", "delay"), QUIET)
            shown |= dict(file=Lines(), bar_format=LINE, **apart)
        self._bar = tqdm(**shown)
        self._steps = done

    def update(self, row: dict[str, Any]) -> None:
        """Shows a row of metrics.jsonl: means over the members that have not diverged."""
        good = ~np.array(row["bad"])
        if good.any():
            loss, accuracy = (
                np.array(values, float)[good].mean()
                for values in (row["loss"], row["validation"]["accuracy"])
            )
            self._bar.set_postfix(loss=f"{loss:.4f}", validation=f"{accuracy:.2%}", refresh=False)
        self._bar.update(row["step"] - self._steps)
        self._steps = row["step"]

    def close(self) -> None:
        self._bar.close()


class Lines:
    """Takes a bar as lines that follow each other, each of them once."""

    def __init__(self):
        self._last = ""

    def write(self, text: str) -> None:
        if text.strip() not in ("", self._last):
            self._last = text.strip()
            print(self._last, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


class TensorBoard:
    """The same rows as TensorBoard scalars in a directory, one per member."""

    def __init__(self, directory: Path):
        from tensorboardX import SummaryWriter  # here, for it is an extra

        self._writer = SummaryWriter(str(directory))

    def update(self, row: dict[str, Any]) -> None:
        for m, loss in enumerate(row["loss"]):
            self._writer.add_scalar(f"loss/{m}", loss, row["step"])
            for name, values in row["validation"].items():
                self._writer.add_scalar(f"validation_{name}/{m}", values[m], row["step"])

    def close(self) -> None:
        self._writer.close()


class Displays:
    """Several displays as one."""

    def __init__(self, *displays: Any):
        self._displays = displays

    def update(self, row: dict[str, Any]) -> None:
        for display in self._displays:
            display.update(row)

    def close(self) -> None:
        for display in self._displays:
            display.close()
