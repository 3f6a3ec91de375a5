"""Statistics over members: mean and s.d., the difference of two groups, and what it tells."""

import math
from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np

BETTER, WORSE, ALIKE = "better", "worse", "not told apart"
LEVEL = 0.95  # of the confidence interval by which two groups are told apart


class Statistics(TypedDict):
    """Of one number over members; None for what cannot be said, and for a member without it."""

    mean: float | None
    std: float | None
    values: list[float | None]


class Difference(TypedDict):
    """Of two means: the first less the second, its standard error, the one over the other, and the
    probability of one as large where there is no difference (None for what cannot be said); and
    whether the first is better, worse or not told apart."""

    mean: float | None
    standard_error: float | None
    ratio: float | None
    p_value: float | None
    verdict: str


def summarise(values: Iterable[float | None]) -> Statistics:
    """Mean and sample standard deviation over the members that have a finite value."""
    values = [None if v is None or not math.isfinite(v) else float(v) for v in values]
    known = [v for v in values if v is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": values,
    }


def exact(value: float | None) -> Statistics:
    """A number without an error, such as that of one classifier that is given."""
    return {"mean": value, "std": None if value is None else 0.0, "values": [value]}


def difference(a: Statistics, b: Statistics, more_is_better: bool = False) -> Difference:
    """The mean of a less that of b. They are told apart if 0 is outside of the interval of LEVEL
    by Welch's t; where no member differs from another, which leaves no error, if the means do."""
    x, y = a["mean"], b["mean"]
    mean = None if x is None or y is None else x - y
    (e, m), (f, n) = _squared_error(a), _squared_error(b)
    if mean is None or e is None or f is None:
        return Difference(mean=mean, standard_error=None, ratio=None, p_value=None, verdict=ALIKE)
    error = math.sqrt(e + f)
    ratio = mean / error if error else None
    p_value = float(mean == 0) if ratio is None else _p_value(ratio, [(e, m), (f, n)])
    verdict = ALIKE if p_value > 1 - LEVEL else _side(mean, more_is_better)
    return Difference(
        mean=mean, standard_error=error, ratio=ratio, p_value=p_value, verdict=verdict
    )


def holm(found: Sequence[Difference]) -> list[Difference]:
    """Differences of one family, of which none is told apart that could be chance among so many:
    with a probability of LEVEL all that are told apart differ (Holm 1979)."""
    known = [i for i, each in enumerate(found) if each["p_value"] is not None]
    adjusted, highest = list(found), 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: found[i]["p_value"] or 0.0)):
        highest = max(highest, (len(known) - rank) * (found[i]["p_value"] or 0.0))
        if highest > 1 - LEVEL:
            adjusted[i] = Difference(**{**found[i], "verdict": ALIKE})
    return adjusted


def _side(mean: float, more_is_better: bool) -> str:
    return BETTER if (mean > 0) == more_is_better else WORSE


def _squared_error(found: Statistics) -> tuple[float | None, int]:
    """The squared standard error of the mean, and how many values it is of."""
    count = sum(v is not None for v in found["values"])
    return None if found["std"] is None else found["std"] ** 2 / count, count


def _p_value(ratio: float, errors: list[tuple[float, int]]) -> float:
    """Two-sided, of Student's t, with the degrees of freedom by Welch and Satterthwaite."""
    from scipy.special import stdtr  # here, for only a report needs it

    parts = sum(error**2 / (count - 1) for error, count in errors if error)
    freedom = sum(error for error, _ in errors) ** 2 / parts if parts else math.inf
    return float(2 * stdtr(freedom, -abs(ratio)))
