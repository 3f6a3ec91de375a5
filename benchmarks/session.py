"""What every benchmark is given, and where it leaves its curves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Curve:
    """A cost against a size. `values` [X][n] in `unit`, n repeats at each of the X `sizes`."""

    title: str
    axis: str
    sizes: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    unit: str


@dataclass(frozen=True)
class Session:
    """`directory` is for whatever is written, and gone after the session. `against` is another
    checkout of kdjax, which the default job is compared with."""

    repeats: int
    directory: Path
    against: Path | None = None
    curves: list[Curve] = field(default_factory=list)

    def few(self, most: int) -> int:
        """The repeats of what takes long."""
        return min(self.repeats, most)

    def curve(
        self,
        title: str,
        axis: str,
        sizes: Sequence[int],
        values: Sequence[Sequence[float]],
        unit: str,
    ) -> None:
        self.curves.append(Curve(title, axis, tuple(sizes), tuple(map(tuple, values)), unit))
