"""Classes that were missing from a stage's examples, and their biases repaired afterwards.

A student taught without 3s knows threes from its teacher's soft targets, but has learned that
there are none: its bias for 3 is far too low (arXiv 1503.02531, section 3). A shift is a number
added to the logits of the missing classes; adding it to theirs or taking it from the others' is
the same distribution.

Axes: N examples, C classes, S shifts. NumPy only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

SHIFTS = 61  # points of a curve


def errors_by_shift(
    logits: np.ndarray, labels: np.ndarray, missing: Sequence[int], shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many of N examples one net gets wrong: all, and those of the missing classes.

    Args:
      logits: [N, C].
      labels: [N].
      missing: classes whose logits are shifted.
      shifts: [S].

    Returns:
      [S], [S].
    """
    gap, inside, outside = _gap(logits, missing)
    order = np.argsort(gap)
    below = np.searchsorted(gap[order], shifts)  # of so many examples a missing class wins

    def count(of: np.ndarray) -> np.ndarray:
        shifted, unshifted = (
            np.append(0, np.cumsum(((predicted != labels) & of)[order]))
            for predicted in (inside, outside)
        )
        return shifted[below] + unshifted[-1] - unshifted[below]

    return count(np.ones(len(labels), bool)), count(np.isin(labels, missing))


def best_shift(logits: np.ndarray, labels: np.ndarray, missing: Sequence[int]) -> float:
    """The shift with the fewest errors on labelled examples: 0 if that is one, else the middle of
    the interval nearest to 0. This is the paper's choice, made on the test set."""
    gap = np.unique(_gap(logits, missing)[0])
    between = (gap[1:] + gap[:-1]) / 2
    shifts = np.concatenate([[0.0], gap[:1] - 1, between, gap[-1:] + 1])
    errors, _ = errors_by_shift(logits, labels, missing, shifts)
    return float(shifts[np.lexsort((np.abs(shifts), errors))[0]])


def matching_shift(logits: np.ndarray, missing: Sequence[int], fraction: float) -> float:
    """The shift at which a missing class wins on this fraction of N unlabelled examples."""
    gap = np.sort(_gap(logits, missing)[0])
    edges = np.concatenate([gap[:1] - 1, gap, gap[-1:] + 1])
    count = round(fraction * len(gap))
    return float((edges[count] + edges[count + 1]) / 2)


def examine(
    unlabelled: np.ndarray,
    teacher_logits: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    missing: Sequence[int],
) -> dict[str, Any]:
    """The errors of a stage's members, as trained and with their biases repaired in two ways.

    Args:
      unlabelled: [M, N', C] logits on examples whose labels are not used.
      teacher_logits: [M, N', C] of each member's teachers there. How often they name a missing
        class decides the honest shift.
      logits: [M, N, C] on the examples whose errors are counted.
      labels: [N].
      missing: the classes.

    Returns:
      Plain data: `classes`, `examples` (of the missing classes, and `of` all), and for
      "as_trained", "matched" and "best" the `shift` [M], `errors` [M] and `missing_errors` [M];
      `curve` with `shift` [S], `errors` [M][S] and `missing_errors` [M][S].
    """
    fractions = np.isin(teacher_logits.argmax(axis=2), missing).mean(axis=1)
    shifts = {
        "as_trained": [0.0 for _ in logits],
        "matched": [
            matching_shift(z, missing, fraction)
            for z, fraction in zip(unlabelled, fractions, strict=True)
        ],
        "best": [best_shift(z, labels, missing) for z in logits],
    }
    found: dict[str, Any] = {"classes": list(missing)}
    found |= {"examples": int(np.isin(labels, missing).sum()), "of": len(labels)}
    for name, values in shifts.items():
        pairs = [
            errors_by_shift(z, labels, missing, np.array([s]))
            for z, s in zip(logits, values, strict=True)
        ]
        found[name] = {
            "shift": values,
            "errors": [int(every[0]) for every, _ in pairs],
            "missing_errors": [int(some[0]) for _, some in pairs],
        }
    chosen = shifts["matched"] + shifts["best"]
    points = np.linspace(2 * min(0.0, *chosen), 2 * max(0.5, *chosen), SHIFTS)
    curves = [errors_by_shift(z, labels, missing, points) for z in logits]
    found["curve"] = {
        "shift": points.tolist(),
        "errors": [every.tolist() for every, _ in curves],
        "missing_errors": [some.tolist() for _, some in curves],
    }
    return found


def _gap(logits: np.ndarray, missing: Sequence[int]) -> tuple[np.ndarray, ...]:
    """[N] how much the best missing class is behind the best other one; [N] and [N] which."""
    inside, outside = np.array(missing), np.setdiff1d(np.arange(logits.shape[1]), missing)
    a, b = logits[:, inside], logits[:, outside]
    gap = b.max(axis=1).astype(np.float64) - a.max(axis=1)
    return gap, inside[a.argmax(axis=1)], outside[b.argmax(axis=1)]
