"""How much a file may ask for: sizes are read, and held against the machine, before arrays are."""

import math
import os
from collections.abc import Iterable
from pathlib import Path

from kdjax.rules import InputError

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # containers


def total() -> int:
    """Bytes of memory that the machine has, or the container that this process runs in."""
    most = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in LIMITS:
        try:
            most.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(most)


def check(says: str, sizes: Iterable[tuple[tuple[int, ...], int]]) -> None:
    """Holds arrays of these (shape, bytes of an element) against the memory there is.

    Raises:
      InputError: they cannot be there at once; `says` begins the sentence.
    """
    needed, there = sum(math.prod(shape) * size for shape, size in sizes), total()
    if needed > there:
        raise InputError(
            f"{says} {needed / 2**30:.3g} GiB, more than the {there / 2**30:.3g} GiB of memory "
            "there are"
        )
