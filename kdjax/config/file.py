"""The config that a file makes, and what a command changes in it."""

import ast
import dataclasses
import importlib.util
import inspect
import os
import re
import sys
import types
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from kdjax.data import DatasetSpec
from kdjax.host import files
from kdjax.rules import InputError, did_you_mean, shown, told

Override = tuple[str, str]  # "config.stages.student.steps", and the text of its value

DATASET = dataclasses.asdict(DatasetSpec())


def read(name: str, overrides: Iterable[Override] = ()) -> dict[str, Any]:
    """Runs a config file, and returns what its `get_config` does, as plain dicts, overridden.

    Args:
      name: FILE, or FILE:ARGUMENT where `get_config` takes an argument, which is text. A name
        without / and .py is that of a config that kdjax has, such as ensemble_to_one.
      overrides: in their order. Those of `dataset`, `data_dir` and `cache_dir` are also given to a
        `get_config` that takes keywords of these names, so that it can look at the data.

    Raises:
      InputError: there is no such file, it raises an error, or it makes no config; or there is no
        such dict of fields.
    """
    overrides = list(overrides)
    path, colon, argument = name.partition(":")
    says = f"--config is {path!r}"
    path = str(files.expand(path)) if re.search(r"/|\.py$", path) else _own(path)
    if not os.path.isfile(path):
        raise InputError(f"{says}; there is no such file")
    module = _module(Path(path).resolve())
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), vars(module))
        if not hasattr(module, "get_config"):
            raise InputError(
                f"{says}, which has no get_config; it must be a function that returns the config"
            )
        given = _of_data(overrides)
        given = _taken(module.get_config, given) if given else {}
        config = module.get_config(*[argument] * bool(colon), **given)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever a program may raise
        raise InputError(f"{says}, which raised {told(error)}") from error
    if not isinstance(config, Mapping | ConfigDict):
        raise InputError(
            f"{says}, whose get_config returned {shown(config)}; it must be a dict of fields"
        )
    config = _plain(config)
    for field, text in overrides:
        override(config, field, text)
    return config


def _of_data(overrides: Iterable[Override]) -> dict[str, Any]:
    """What a command changes of the fields that say which data there are."""
    changed: dict[str, Any] = {}
    for field, text in overrides:
        _, name, *rest = field.split(".")
        if name == "dataset" and len(rest) == 1:
            key = rest[0]
            changed.setdefault(name, {})[key] = _value(text, DATASET.get(key))
        elif name in ("data_dir", "cache_dir") and not rest:
            changed[name] = text
    return changed


def _taken(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a function takes by name alone."""
    parameters = inspect.signature(function).parameters.values()
    kinds = {p.name: p.kind for p in parameters}
    others = inspect.Parameter.VAR_KEYWORD in kinds.values()
    by_name = inspect.Parameter.KEYWORD_ONLY
    return {k: v for k, v in given.items() if kinds.get(k, by_name if others else None) is by_name}


def _module(path: Path) -> types.ModuleType:
    """A module for the file, in a package of its folder, so that it may import its neighbours."""
    package = types.ModuleType(f"kdjax_configs_{zlib.crc32(os.fsencode(path.parent)):08x}")
    package.__path__ = [str(path.parent)]
    module = types.ModuleType(f"{package.__name__}.{path.stem}")
    module.__file__, module.__package__ = str(path), package.__name__
    # Where relative imports, and the dataclasses of the file, look for them.
    sys.modules |= {each.__name__: each for each in (package, module)}
    return module


def _own(name: str) -> str:
    """The file of a config of kdjax's, or the name itself if there is none."""
    found = importlib.util.find_spec(f"kdjax.configs.{name}") if name.isidentifier() else None
    return found.origin or name if found else name


def override(config: dict[str, Any], field: str, text: str) -> None:
    """Sets a field, such as "config.stages.student.steps", to the Python value that `text` is, or
    to the text itself; whether it is a field and may have that value, `parse` says.

    Raises:
      InputError: there is no such dict of fields.
    """
    *path, name = field.split(".")[1:]
    here, says = config, "config"
    for key in path:
        if not isinstance(here.get(key), dict):
            dicts = [known for known, value in here.items() if isinstance(value, dict)]
            raise InputError(
                f"--{field}: {says} has no dict of fields {key!r}{did_you_mean(key, dicts)}; "
                f"it has {', '.join(dicts) or 'none'}"
            )
        here, says = here[key], f"{says}.{key}"
    here[name] = _value(text, here.get(name))


def _value(text: str, now: Any) -> Any:
    if isinstance(now, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    if type(now) is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(now) is int and type(value) is float and value.is_integer():
        return int(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping | ConfigDict):
        return {key: _plain(part) for key, part in value.items()}
    return value
