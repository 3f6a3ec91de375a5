"""The JSON file of rows: written after each benchmark, and filled in any number of sittings."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.timing import Row
from kdjax.host import files
from kdjax.rules import InputError

OTHER = "give another --json"
OWN = ("commands", "data")  # of the environment: what each sitting adds to


def read(path: Path, environment: dict[str, Any]) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the file, and the environment with what earlier sittings did; no rows if there is
    no file.

    Raises:
      InputError: the file cannot be written or is another one, or its rows are of another machine
        or of other versions.
    """
    if not path.exists():
        if not path.parent.is_dir():
            raise InputError(f"--json is {path}, in no directory; {OTHER}")
        return [], environment
    try:
        content = json.loads(path.read_text())
        rows = [Row(**row | {"spread": tuple(row["spread"])}) for row in content["rows"]]
        before = content["environment"]
        both = {name: list(dict.fromkeys(before[name] + environment[name])) for name in OWN}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--json is {path}, no file of this program's ({error}); {OTHER}"
        ) from error
    for name, value in environment.items():
        if name not in OWN and before.get(name) != value:
            raise InputError(
                f"--json is {path}, whose rows are of {name} {before.get(name)!r}, here {value!r}; "
                f"{OTHER}"
            )
    return rows, environment | both


def merged(old: Sequence[Row], new: Iterable[Row]) -> list[Row]:
    """The old rows, each replaced where there is a new one of its name, and the other new ones."""
    return list(({row.name: row for row in old} | {row.name: row for row in new}).values())


def write(path: Path, rows: Iterable[Row], environment: dict[str, Any]) -> None:
    content = {"rows": [asdict(row) for row in rows], "environment": environment}
    files.write(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
