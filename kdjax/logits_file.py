"""Files of logits: the predictions of nets of any framework for a data set's examples.

A file has the logits [K, N, C] of one or more splits (`train_logits`, ...) and a JSON text,
`about`: the names of the classes, the SHA-256 of the inputs of each split, and that of all content,
by which a damaged file is known. It is not trusted: nothing in it is run, and its sizes are checked
before it is read.

Axes: K teachers, N examples of a split, C classes.
"""

import hashlib
import importlib.util
import io
import json
import logging
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data import SPLITS, npz, one_line, shaped
from kdjax.data.classes import checked_names
from kdjax.data.given import as_array
from kdjax.host import files
from kdjax.rules import InputError, shown

ENTRIES = {f"{split}_logits": split for split in SPLITS}  # of a file
ABOUT = "about"
ROUNDED = 0.05  # by which rounding may change a sum of probabilities, on average
FORMAT = "kdjax logits 1"
SUFFIXES = (".npz", ".safetensors")
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Logits:
    """Logits of K teachers.

    Attributes:
      arrays: those of each split, [K, N, C] float32, all finite.
      class_names: [C] in the order of the logits; () where they are not known.
      inputs: the digest of the inputs of each split, as of `inputs_digest`; {} where it is not
        known.
    """

    arrays: Mapping[str, np.ndarray]
    class_names: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The SHA-256 of all content."""
        shapes = {split: z.shape for split, z in self.arrays.items()}
        about = [FORMAT, self.class_names, sorted(self.inputs.items()), sorted(shapes.items())]
        digest = hashlib.sha256(json.dumps(about).encode())
        for split in sorted(self.arrays):
            digest.update(np.ascontiguousarray(self.arrays[split]).data)
        return digest.hexdigest()


def save_logits(
    path: str | os.PathLike, logits: Any, inputs: Any, class_names: Sequence[str]
) -> None:
    """Writes what teachers from elsewhere say of a data set to a file, from which `kdjax.logits`,
    or a config that names it, makes a teacher.

        inputs, _ = kdjax.examples(config, "train")
        kdjax.save_logits("teachers.npz", my_nets(inputs), inputs, ["cat", "dog"])

    Args:
      path: of the file, which ends in .npz or .safetensors. A file that is there is
        replaced.
      logits: floats [N, C], or [K, N, C] of K teachers, before the softmax; of the train split, or
        a dict {split: logits} with "train", and perhaps "validation" and "test". They are kept in
        float32.
      inputs: what the logits are of: the raw inputs [N, ...] that `kdjax.examples` gives, in its
        order; or a dict of them, as of `logits`. Their digest is kept, and held against the data
        set of a student.
      class_names: [C] in the order of the logits. They are matched with the student's by name.

    Raises:
      InputError: an argument cannot be used; nothing has been written by then.
      OSError: the file cannot be written.
    """
    path = _path(path)
    logits = logits if isinstance(logits, Mapping) else {"train": logits}
    inputs = inputs if isinstance(inputs, Mapping) else {"train": inputs}
    found = checked(logits, () if class_names is None else class_names)
    if set(found.arrays) != set(inputs):
        raise InputError(
            f"inputs are of the splits {', '.join(inputs)}, and logits of "
            f"{', '.join(found.arrays)}; they must be of the same"
        )
    digests = {}
    for split, z in found.arrays.items():
        here = shaped(as_array(f"the {split} inputs", inputs[split]))
        if here.ndim < 2 or len(here) != z.shape[1]:
            raise InputError(
                f"the {split} inputs have the shape {here.shape}, and the {split} logits "
                f"{z.shape}; they must be of the same number of examples"
            )
        digests[split] = inputs_digest(len(here), [here])
    found = Logits(found.arrays, found.class_names, digests)
    about = {"format": FORMAT, "class_names": found.class_names, "inputs": digests}
    text = json.dumps(about | {"sha256": found.digest})
    files.write(path, _content(path, found.arrays, text))


def read(path: str | os.PathLike) -> Logits:
    """The logits in a file that `save_logits` wrote, or `numpy.savez` with an array for each split.
    The second has no digests, so that it cannot be held against a student's inputs; that is logged.

    Raises:
      InputError: there is no such file, or it is not what it must be.
    """
    path = _path(path)
    says = f"the file of logits is {str(path)!r}"
    if not path.exists():
        raise InputError(f"{says}, which is not there; kdjax.save_logits writes such a file")
    arrays, about = (_read_npz if path.suffix == ".npz" else _read_safetensors)(path, says)
    if about is None:
        log.warning(
            f"{says}, which has no digest of the inputs, so that they cannot be held against the "
            "student's; kdjax.save_logits writes one"
        )
        return checked(arrays)
    try:
        return _as_saved(arrays, about)
    except Exception as error:  # whatever a damaged file leads to
        raise InputError(
            f"{says}, which is not as it was saved ({_why(error)}); it must be written again"
        ) from error


def checked(
    arrays: Mapping[str, Any], class_names: Any = None, inputs: Mapping[str, str] | None = None
) -> Logits:
    """Logits as float32 [K, N, C].

    Args:
      arrays: split to [N, C] or [K, N, C].
      class_names: [C], or None where they are not known.
      inputs: the digests of each split, where they are known.

    Raises:
      InputError: there are none of the train split, an array is not of that shape or not finite,
        splits have other numbers of teachers or classes, or the names are not C different texts.
    """
    others = [split for split in arrays if split not in SPLITS]
    if others or "train" not in arrays:
        raise InputError(
            f"the teacher's logits are of {shown(', '.join(map(str, arrays)))}; they must be of "
            "train, and may be of validation and test"
        )
    found = {split: _checked(split, arrays[split]) for split in SPLITS if split in arrays}
    if len({(len(z), z.shape[2]) for z in found.values()}) > 1:
        raise InputError(
            "the teacher's logits are of "
            + ", ".join(f"{s} {z.shape}" for s, z in found.items())
            + "; all splits must have as many teachers and classes"
        )
    classes = found["train"].shape[2]
    names = () if class_names is None else checked_names("class_names", class_names, classes)
    return Logits(found, names, inputs or {})


def named(logits: Logits, class_names: Any, name: str) -> Logits:
    """The logits with names of their classes [C].

    Raises:
      InputError: they are not the names that the logits have, if they have any; `name` is theirs.
    """
    names = checked_names("class_names", class_names, logits.arrays["train"].shape[2])
    if logits.class_names not in ((), names):
        raise InputError(
            f"class_names is {shown(names)}, but the logits {name!r} have "
            f"{shown(logits.class_names)}; they must be equal"
        )
    return replace(logits, class_names=names)


def inputs_digest(count: int, parts: Iterable[np.ndarray]) -> str:
    """The SHA-256 of the `count` raw inputs of a split, given in parts [b, ...], which may be one:
    their shape, and the bytes of integers as they are and of floats as float32."""
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        if part.dtype.kind == "f":
            part = part.astype(np.float32, copy=False)
        if not number:
            digest.update(f"{part.dtype.name} {(count, *part.shape[1:])}\n".encode())
        digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def are_probabilities(values: np.ndarray) -> bool:
    """Whether values [..., C] are what a softmax gives, perhaps rounded: none below 0 or above 1,
    and of sum 1."""
    sums = values.sum(axis=-1, dtype=np.float64)
    inside = bool(((values >= 0) & (values <= 1 + ROUNDED)).all())
    return inside and bool(abs(sums.mean() - 1) < ROUNDED and abs(sums - 1).max() < 4 * ROUNDED)


def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike) or Path(path).suffix not in SUFFIXES:
        raise InputError(
            f"the file of logits is {shown(path)}; it must be a path that ends in "
            f"{' or '.join(SUFFIXES)}"
        )
    found = files.expand(os.fspath(path))
    if found.suffix == ".safetensors" and importlib.util.find_spec("safetensors") is None:
        raise InputError(
            f"the file of logits is {str(path)!r}, but safetensors is not installed; "
            "pip install safetensors, or use .npz"
        )
    return found


def _checked(split: str, values: Any) -> np.ndarray:
    z = as_array(f"the teacher's {split} logits", values)
    if z.dtype.kind != "f" or z.ndim not in (2, 3) or not z.size or z.shape[-1] < 2:
        raise InputError(
            f"the teacher's {split} logits are {z.dtype} {z.shape}; they must be floats [N, C] or "
            "[K, N, C], C at least 2"
        )
    with np.errstate(over="ignore"):
        z = np.ascontiguousarray(z, np.float32)  # safetensors writes other values where it is not
    if not np.isfinite(z).all():
        wrong = z.size - np.count_nonzero(np.isfinite(z))
        raise InputError(
            f"the teacher's {split} logits have {wrong} values NaN or infinite; they must be finite"
        )
    if are_probabilities(z):
        raise InputError(
            f"the teacher's {split} logits are probabilities, none below 0 and the sum of each row "
            "1; they must be what the softmax is taken of, such as the probabilities' logarithms"
        )
    return z if z.ndim == 3 else z[None]


def _content(path: Path, arrays: Mapping[str, np.ndarray], about: str) -> bytes:
    entries: dict[str, Any] = {name: arrays[s] for name, s in ENTRIES.items() if s in arrays}
    if path.suffix == ".safetensors":
        from safetensors import numpy as safetensors

        return safetensors.save(entries, {ABOUT: about})
    content = io.BytesIO()
    np.savez(content, **entries | {ABOUT: np.array(about)})
    return content.getvalue()


def _read_npz(path: Path, says: str) -> tuple[dict[str, np.ndarray], str | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
    except Exception as error:  # whatever a damaged file leads to
        raise _unreadable(says, error) from error
    own = {f"{name}.npy": name for name in (*ENTRIES, ABOUT)}  # without ABOUT, a part is lost
    known = own if f"{ABOUT}.npy" in entries else {f"{split}.npy": split for split in SPLITS}
    if set(entries) - set(known) or len(set(entries)) < len(entries):
        raise InputError(
            f"{says}, which holds {shown(', '.join(entries))}; it must hold what "
            "kdjax.save_logits writes, or an array for each split, of "
            f"{', '.join(SPLITS)}, and no other"
        )
    arrays: dict[str, Any]
    arrays, _ = npz.read(str(path), says, lambda name: known.get(f"{name}.npy"))
    about = arrays.pop(ABOUT, None)
    return arrays, None if about is None else str(about)


def _read_safetensors(path: Path, says: str) -> tuple[dict[str, np.ndarray], str]:
    from safetensors import safe_open  # here, for few read such files

    try:
        with safe_open(path, framework="numpy") as file:
            about = (file.metadata() or {})[ABOUT]
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except Exception as error:  # whatever a damaged file leads to
        raise _unreadable(says, error) from error


def _unreadable(says: str, error: Exception) -> InputError:
    return InputError(
        f"{says}, which cannot be read ({_why(error)}); it must be a file that kdjax.save_logits "
        "wrote"
    )


def _why(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else one_line(error)


def _as_saved(arrays: Mapping[str, np.ndarray], about: str) -> Logits:
    """What `save_logits` was given.

    Raises:
      ValueError, and others: it is not.
    """
    header = json.loads(about)
    if header["format"] != FORMAT:
        raise ValueError(f"the format is {shown(header['format'])}, not {FORMAT!r}")
    arrays = {ENTRIES[entry]: z for entry, z in arrays.items()}
    if any(z.dtype != np.float32 for z in arrays.values()) or set(arrays) != set(header["inputs"]):
        raise ValueError("arrays are missing, or are not float32")
    found = Logits(arrays, tuple(header["class_names"]), header["inputs"])
    if found.digest != header["sha256"]:
        raise ValueError("the content has another digest")
    return checked(arrays, found.class_names, found.inputs)
