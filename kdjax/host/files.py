"""Small files: written whole or not at all, and JSON that any reader takes."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax.rules import InputError


def expand(path: str | Path) -> Path:
    """A path that a user gave, with the home directory in place of a ~ at its start."""
    return Path(os.path.expanduser(path))


def user_cache() -> Path | None:
    """Where kdjax puts what it can make again: kdjax in $XDG_CACHE_HOME, else in ~/.cache; None
    where the user has no home."""
    cache = expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return cache / "kdjax" if cache.is_absolute() else None


def write(path: Path, content: str | bytes) -> None:
    """Writes the whole file; a kill or an error leaves what was there."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: a number that is not finite becomes null."""
    return json.dumps(strict(value), indent=indent, allow_nan=False)


def strict(value: Any) -> Any:
    """The value as strict JSON gives it back."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The keys in which two plain trees differ, as "key: old -> new"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{path}.{k}")]
    return [] if old == new else [f"{path.lstrip('.')}: {old} -> {new}"]


def load_json(path: Path, advice: str = "delete the stage directory", **keys: type) -> dict:
    """The dict in a JSON file, which must have these keys, of these types."""
    try:
        read = {**json.loads(path.read_text())}  # a TypeError if it holds no dict
        lacking = [key for key, kind in keys.items() if not isinstance(read.get(key), kind)]
        if lacking:
            raise ValueError(f"it has no {' and no '.join(lacking)}")
        return read
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise unreadable(path, error, advice) from error


def unreadable(path: Path, why: Any, advice: str = "delete the stage directory") -> InputError:
    why = (str(why).splitlines() or [repr(why)])[0]  # Orbax's messages run over many lines
    return InputError(f"{path} cannot be read ({why[:200]}); {advice}")
