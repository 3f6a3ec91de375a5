"""Writes an exported net: a folder that is whole or is not there."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax.exported import card, forms
from kdjax.host import files, versions
from kdjax.nets import cost
from kdjax.nets.net import Variables
from kdjax.rules import InputError, shown

FORMAT = "kdjax export 1"
UNSIGNED = 64 * "0"  # what stands in config.json where its digest will
KEPT = (
    "model",
    "classes",
    "input_shape",
    "input_dtype",
    "input_range",
    "columns",
    "preprocessing",
    "dataset",
)


@dataclass(frozen=True, eq=False)
class Student:
    """One member of a finished stage, as it is exported.

    Attributes:
      where: it comes from, for messages.
      spec: the stage's fields.
      numbers: of this member (seed, temperature, ...).
      meta: of the stage: model, classes, inputs, preprocessing, data set, teachers, versions.
      class_names: [C].
      metrics: split to metric to value, of this member.
      spread: split to metric to {"n", "mean", "std"}, over members that differ by their seed alone.
      variables: of this member.
      forward: (raw inputs [B, ...]) -> logits [B, C] float32, traceable.
      predict: the same on the host, as the stage itself predicts.
    """

    where: str
    spec: Mapping[str, Any]
    numbers: Mapping[str, Any]
    meta: Mapping[str, Any]
    class_names: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, float | None]]
    spread: Mapping[str, Mapping[str, Mapping[str, float]]]
    variables: Variables
    forward: Callable[[Any], jax.Array]
    predict: Callable[[np.ndarray], np.ndarray]


def write(folder: str | Path, student: Student, onnx: bool | None) -> Path:
    """Writes the folder of a student: each form made, run against the student, and timed.

    Args:
      onnx: whether ONNX is one of the forms; None where its packages are installed.

    Returns:
      The folder's path.

    Raises:
      InputError: the folder has something in it or cannot be written, or a form cannot be made of
        this net, or gives other logits than it; nothing is left behind.
    """
    target = _free(folder)
    with_onnx = forms.onnx_asked(onnx)
    made, facts = _forms(student, with_onnx)
    found = facts | _description(student, made)
    found["files"] = {
        name: {"sha256": sha256(data), "bytes": len(data)} for name, data in made.items()
    }
    made[forms.CARD] = card.of(found).encode()  # which its reader may edit
    made[forms.CONFIG] = signed(found)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.parent / f".{target.name}.{uuid.uuid4().hex}"
        try:
            beside.mkdir()
            for name, data in made.items():
                files.write(beside / name, data)
            os.rename(beside, target)  # also onto an empty folder
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise InputError(f"folder is {str(folder)!r}, which cannot be written ({error})") from error
    return target


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def signed(config: Mapping[str, Any]) -> bytes:
    """config.json with a digest of itself, in which zeros stand for that digest."""
    text = files.to_json({"digest": UNSIGNED, **config}, indent=1) + "\n"
    return text.replace(UNSIGNED, sha256(text.encode()), 1).encode()


def _free(folder: str | Path) -> Path:
    """The path of a folder that is not there, or is empty."""
    if not isinstance(folder, str | os.PathLike) or not str(folder):
        raise InputError(f"folder is {shown(folder)}; it must be the path of a folder")
    target = Path(os.path.abspath(files.expand(folder)))
    above = next(parent for parent in target.parents if os.path.lexists(parent))
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise InputError(f"folder is {str(folder)!r}, but nothing can be written in {above}")
    try:
        taken = os.path.lexists(target) and (not target.is_dir() or any(target.iterdir()))
        linked = target.is_symlink()
    except OSError as error:
        raise InputError(f"folder is {str(folder)!r}, which cannot be read ({error})") from error
    if taken or linked:
        what = "is there and is not empty" if not linked and target.is_dir() else "is no folder"
        raise InputError(
            f"folder is {str(folder)!r}, which {what}; it must be new, or an empty folder"
        )
    return target


def _forms(student: Student, with_onnx: bool) -> tuple[dict[str, bytes], dict[str, Any]]:
    """{file: content}, and how each form does: how far its logits are from ours, and how long it
    takes."""
    meta, classes = student.meta, student.meta["classes"]
    inputs = tuple(meta["input_shape"]), meta["input_dtype"]
    made = {forms.PARAMETERS: forms.parameters(student.variables)}
    made[forms.PROGRAM] = forms.program(student.forward, *inputs)
    calls = {"kdjax": student.predict}
    calls["stablehlo"] = forms.run_program(made[forms.PROGRAM], classes, *inputs)
    if with_onnx:
        made[forms.ONNX] = forms.onnx_file(made[forms.PROGRAM], student.class_names, student.where)
        calls["onnx"] = forms.run_onnx(made[forms.ONNX], student.where)
    ours, apart = calls["kdjax"], {}
    for form in list(calls)[1:]:
        says = f"{student.where} as {form}"
        apart[form] = forms.largest_difference(ours, calls[form], meta, says)
    facts = {"largest_difference": apart, "latency_ms": forms.latencies(calls, meta)}
    return made, facts


def _description(student: Student, made: Mapping[str, bytes]) -> dict[str, Any]:
    """What config.json holds beside the digests."""
    meta = student.meta
    validation = student.metrics.get("validation", {})
    onnx = versions.installed(forms.PACKAGES) if forms.ONNX in made else {}
    return {
        "format": FORMAT,
        **{key: meta.get(key) for key in KEPT},
        "class_names": list(student.class_names),
        "arguments": student.spec.get("model"),
        "teachers": [_last(str(name)) for name in meta["teachers"]],
        "stage": {k: v for k, v in student.spec.items() if k not in ("teacher", "init_from")},
        "member": dict(student.numbers),
        "parameters": cost.parameters(student.variables["params"]),
        "metrics": student.metrics,
        "spread": student.spread,
        "calibration_temperature": validation.get("calibration_temperature"),
        "trained_with": meta["versions"],
        "exported_with": versions.environment() | {"versions": versions.versions() | onnx},
    }


def _last(path: str) -> str:
    """The name of a directory without where it was on this machine."""
    return path.rstrip("/").rpartition("/")[2]


def unsigned(text: str) -> tuple[dict[str, Any], bool]:
    """What config.json says, and whether it is what `signed` wrote."""
    config = json.loads(text)
    digest = config["digest"]
    return config, sha256(text.replace(digest, UNSIGNED, 1).encode()) == digest
