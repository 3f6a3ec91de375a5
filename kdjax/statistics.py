"""Statistics over members: mean and s.d., the difference of two groups, and what it tells."""

import math
from collections.abc import Iterable
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
    """Of two means: the first less the second, its standard error, the one over the other (None
    for what cannot be said), and whether the first is better, worse or not told apart."""

    mean: float | None
    standard_error: float | None
    ratio: float | None
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
        return {"mean": mean, "standard_error": None, "ratio": None, "verdict": ALIKE}
    error, verdict = math.sqrt(e + f), WORSE
    if abs(mean) <= _quantile([(e, m), (f, n)]) * error:
        verdict = ALIKE
    elif (mean > 0) == more_is_better:
        verdict = BETTER
    ratio = mean / error if error else None
    return {"mean": mean, "standard_error": error, "ratio": ratio, "verdict": verdict}


def _squared_error(found: Statistics) -> tuple[float | None, int]:
    """The squared standard error of the mean, and how many values it is of."""
    count = sum(v is not None for v in found["values"])
    return None if found["std"] is None else found["std"] ** 2 / count, count


def _quantile(errors: list[tuple[float, int]]) -> float:
    """Of Student's t, with the degrees of freedom by Welch and Satterthwaite."""
    from scipy.special import stdtrit  # here, for only a report needs it

    parts = sum(error**2 / (count - 1) for error, count in errors if error)
    freedom = sum(error for error, _ in errors) ** 2 / parts if parts else math.inf
    return float(stdtrit(freedom, (1 + LEVEL) / 2))
