"""A stage that takes its numbers from the best cell of an earlier stage's grid."""

import dataclasses
from typing import Any

import numpy as np

from kdjax.config.spec import Numbers, StageSpec, TermSpec, cells, read_hparams
from kdjax.rules import InputError, shown
from kdjax.stage import Stage


def check_numbers_from(stage: StageSpec, earlier: dict[str, StageSpec], path: str) -> None:
    """Whether the numbers of an earlier stage's grid can be those of a stage.

    Raises:
      InputError: there is no such stage, it has no grid, or the stage does not read its numbers.
    """
    if not stage.numbers_from:
        return
    says = f"{path}.numbers_from is {shown(stage.numbers_from)}"
    if stage.numbers_from not in earlier:
        known = ", ".join(earlier) or "there is none"
        raise InputError(f"{says}; it must be an earlier stage ({known})")
    axes = [n for n, _ in earlier[stage.numbers_from].members if n != "seed"]
    if not axes:
        raise InputError(
            f"{says}, which has no grid; its members must differ in more than the seed"
        )
    own, read = dict(stage.members), read_hparams(stage)
    for name in axes:
        if name not in read or name in own:
            why = "sweeps it itself" if name in own else f"reads {', '.join(read)}"
            raise InputError(
                f"{says}, which is a grid over {name!r}, but this stage {why}; it must take each "
                "number of that grid"
            )


def best_numbers(source: StageSpec, finished: Stage) -> Numbers:
    """The numbers of the cell whose members make the fewest errors on the validation split, on
    average; of equal ones that with the lower nll. Members that diverged do not count."""
    found, bad = finished.metrics["validation"], np.array(finished.diverged)
    ranked: list[tuple[float, float, Numbers]] = []
    for cell, places in cells(source):
        healthy = [i for i in places if not bad[i]]
        if healthy:
            errors, nll = (np.array(found[name])[healthy].mean() for name in ("errors", "nll"))
            ranked.append((float(errors), float(nll), cell))
    return min(ranked, key=lambda each: each[:2])[2]  # a finished stage has a healthy member


def with_numbers(stage: StageSpec, numbers: Numbers) -> StageSpec:
    """The stage with these numbers in place of its own: of terms, of its optimizer, or its own."""
    for name, value in numbers.items():
        term, _, number = name.rpartition(".")
        own: dict[str, Any] = {name: value}
        if term:
            own = {"objective": tuple(_set(p, term, number, value) for p in stage.objective)}
        elif hasattr(stage.optimizer, name):
            own = {"optimizer": dataclasses.replace(stage.optimizer, **own)}
        stage = dataclasses.replace(stage, **own)
    return stage


def _set(part: TermSpec, term: str, number: str, value: float) -> TermSpec:
    if part.name != term:
        return part
    return dataclasses.replace(part, numbers=tuple((dict(part.numbers) | {number: value}).items()))
