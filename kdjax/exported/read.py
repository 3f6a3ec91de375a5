"""Opens an exported net, and refuses one that is damaged."""

import functools
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import raw
from kdjax.data import one_line
from kdjax.exported import forms
from kdjax.exported.writing import FORMAT, sha256, unsigned
from kdjax.host import files
from kdjax.rules import InputError, check, number, one_of, shown, text, tuple_of, whole


@dataclass(frozen=True, eq=False, repr=False)
class Exported:
    """An exported net, which runs its own `forward.stablehlo`.

    Attributes:
      path: of its folder.
      config: what `config.json` says: classes, inputs, metrics, calibration, latencies, versions.
      program: the content of `forward.stablehlo`.
    """

    path: Path
    config: dict[str, Any]
    program: bytes

    def __repr__(self) -> str:
        says = f"{self.config['model']}, {self.config['parameters']:,} parameters"
        return f"<exported {self.config['stage']['name']}: {says}, {len(self.class_names)} classes>"

    @property
    def class_names(self) -> tuple[str, ...]:
        """[C], in the order of the logits."""
        return tuple(self.config["class_names"])

    @functools.cached_property
    def _call(self) -> forms.Call:
        c = self.config
        return forms.run_program(
            self.program, c["classes"], tuple(c["input_shape"]), c["input_dtype"]
        )

    def predict(self, inputs: Any) -> np.ndarray:
        """Logits [B, C] float32 of raw inputs [B, ...], as the data set has them.

        Raises:
          InputError: as `Stage.predict` does.
        """
        inputs = raw.checked(inputs, self.config)
        if not len(inputs):
            return np.zeros((0, self.config["classes"]), np.float32)
        return raw.in_batches(self._call, inputs, axis=0)

    def read_images(self, paths: str | Path | Iterable[str | Path]) -> np.ndarray:
        """Image files as `predict` takes them, [B, H, W, C] uint8; as `Stage.read_images`.

        Raises:
          InputError: the net was not trained on images of 8 bits, or a file is none.
        """
        return raw.read_images(paths, self.config, str(self.path))


def open_export(path: str | Path) -> Exported:
    """Opens a folder that `Stage.export` has written. Nothing that it names is imported.

    Args:
      path: of the folder.

    Raises:
      InputError: there is no such folder, it is no export, or a file of it is missing, damaged or
        of another export.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path is {shown(path)}; it must be the path of an exported net's folder")
    path = files.expand(path)
    if not (path / forms.CONFIG).is_file():
        raise InputError(
            f"{path} has no {forms.CONFIG}; it must be a folder that Stage.export has written"
        )
    try:
        config, whole_text = unsigned((path / forms.CONFIG).read_bytes().decode())
        if not whole_text:
            raise ValueError(f"its {forms.CONFIG} is not as it was written")
        _check(config)
        program = _contents(path, config["files"])[forms.PROGRAM]
        opened = Exported(path, config, program)
        _ = opened._call  # a ValueError if its program is of other inputs or classes
    except Exception as error:  # whatever a damaged or hostile file leads to; nothing in it is run
        raise InputError(
            f"{path} cannot be opened ({one_line(error)}); it must be as Stage.export wrote it"
        ) from error
    return opened


def _contents(path: Path, declared: dict[str, Any]) -> dict[str, bytes]:
    """Every file that the config declares, as it was written."""
    found = {}
    for name, facts in declared.items():
        check(one_of((forms.PARAMETERS, forms.PROGRAM, forms.ONNX)), "a file", name)
        size = (path / name).stat().st_size
        if size != facts["bytes"]:
            raise ValueError(f"its {name} has {size} bytes, not {facts['bytes']}")
        found[name] = (path / name).read_bytes()
        if sha256(found[name]) != facts["sha256"]:
            raise ValueError(f"its {name} is damaged, or of another export")
    return found


def _check(config: dict[str, Any]) -> None:
    check(one_of((FORMAT,)), "its format", config["format"])
    check(text(), "its model", config["model"])
    check(whole(2), "its number of classes", config["classes"])
    check(tuple_of(whole(1)), "its input shape", config["input_shape"])
    check(one_of(("uint8", "uint16", "float32")), "its inputs' dtype", config["input_dtype"])
    if config["input_range"] is not None:
        check(tuple_of(number(-math.inf)), "the range of its inputs", config["input_range"])
    check(tuple_of(text()), "its inputs' columns", config.get("columns") or ())
    check(tuple_of(text()), "its classes' names", config["class_names"])
    check(whole(0), "its number of parameters", config["parameters"])
    check(text(), "its name", config["stage"]["name"])
    if config["calibration_temperature"] is not None:
        check(number(0, above=True), "its temperature", config["calibration_temperature"])
    if len(config["class_names"]) != config["classes"]:
        raise ValueError(
            f"it has {len(config['class_names'])} names of {config['classes']} classes"
        )
