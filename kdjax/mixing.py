"""Which teachers each member learns from, and how much of each."""

from collections.abc import Mapping, Sequence

import numpy as np

from kdjax.rules import InputError


def mixing_matrix(
    members: Sequence[Mapping[str, float]],
    mixing: str,
    count: int,
    validation_errors: Sequence[float] | np.ndarray,
    path: str,
) -> np.ndarray:
    """Which teachers each member learns from: [M, K], rows with sum 1.

    Args:
      members: the numbers of each; "ensemble_size", where there is one, is how many of the first
        teachers are mixed, 0 all.
      mixing: "all", "one_to_one" or "best".
      count: K.
      validation_errors: [K], by which "best" chooses.
      path: of the stage in the config, for messages.

    Raises:
      InputError: an ensemble larger than K; "one_to_one" without as many seeds as teachers.
    """
    rows = np.zeros((len(members), count), np.float32)
    seeds = list(dict.fromkeys(member["seed"] for member in members))
    if mixing == "one_to_one" and len(seeds) != count:
        raise InputError(
            f"{path}.mixing is 'one_to_one', but there are {len(seeds)} seeds and {count} "
            "teachers, those that diverged not counted; the numbers must be equal"
        )
    for row, member in zip(rows, members, strict=True):
        size = int(member.get("ensemble_size", 0)) or count
        if size > count:
            raise InputError(
                f"{path}.ensemble_size is {size}; it must be at most the {count} teachers, those "
                "that diverged not counted"
            )
        if mixing == "all":
            row[:size] = 1 / size
        elif mixing == "one_to_one":
            row[seeds.index(member["seed"])] = 1
        else:
            row[int(np.argmin(validation_errors))] = 1
    return rows


def peers_matrix(count: int) -> np.ndarray:
    """[M, M]: each member learns from all others alike."""
    return (1 - np.eye(count, dtype=np.float32)) / (count - 1)
