"""What a user sees while a stage trains."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

QUIET = 60  # seconds between two lines where there is no terminal
CLOCK = 1.0  # seconds between two looks at the clock where there is one
LINE = "{desc}: {n_fmt} of {total_fmt} steps in {elapsed}, {remaining} left{postfix}"
FIRST = "compiling, then the first steps"


def say(line: str) -> None:
    """Prints a line for the user."""
    write(line, sys.stdout)


def write(line: str, stream: Any) -> None:
    """Prints a line to a stream. Where nobody reads it any more, as after `| head -1`, the line and
    all later ones are lost, and nothing ends."""
    if stream is None or getattr(stream, "closed", False):
        return
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Progress:
    """A bar with loss, validation accuracy and time left; without a terminal, a line of them every
    minute.

    Args:
      name: of the stage.
      total, done: steps, in all and before this run.
    """

    def __init__(self, name: str, total: int, done: int):
        shown = dict(total=total, initial=done, desc=name, unit="step")
        self._every = CLOCK  # seconds, at most, between two displays
        terminal = bool(sys.stderr) and sys.stderr.isatty()
        if not terminal:
            apart = dict.fromkeys(("mininterval", "maxinterval", "delay"), QUIET)
            shown |= dict(file=Lines(), bar_format=LINE, **apart)
            self._every = max(CLOCK, QUIET)
        self._bar = tqdm(**shown)
        self._bar.set_postfix_str(FIRST, refresh=terminal)
        self._first = True
        self._closed = threading.Event()
        threading.Thread(target=self._keep_time, daemon=True).start()

    def update(self, row: dict[str, Any]) -> None:
        """Shows a row of metrics.jsonl: means over the members that have not diverged."""
        bar, good = self._bar, ~np.array(row["bad"])
        bar.set_postfix_str("", refresh=False)
        if good.any():
            loss, accuracy = (
                np.array(values, float)[good].mean()
                for values in (row["loss"], row["validation"]["accuracy"])
            )
            shown = {"loss": f"{loss:.4f}", "validation accuracy": f"{accuracy:.2%}"}
            bar.set_postfix(shown, refresh=False)
        if self._first:  # the time that it took to compile says nothing of the time that is left
            bar.initial = bar.n = bar.last_print_n = row["step"]
            bar.last_print_t = time.time()
            self._first = False
        bar.update(row["step"] - bar.n)

    def close(self) -> None:
        self._closed.set()
        self._bar.close()

    def _show(self) -> None:
        self._bar.refresh()
        self._bar.last_print_t = time.time()

    def _keep_time(self) -> None:
        """Shows the time that goes by between two updates."""
        while not self._closed.wait(self._every):
            if time.time() - self._bar.last_print_t >= self._every:
                self._show()


class Lines:
    """Takes a bar as lines that follow each other, each of them once."""

    def __init__(self):
        self._last = ""

    def write(self, text: str) -> None:
        if text.strip() not in ("", self._last):
            self._last = text.strip()
            write(self._last, sys.stderr)

    def flush(self) -> None:
        pass


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
