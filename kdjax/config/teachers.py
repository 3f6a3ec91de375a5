"""The teachers of a stage, from the field of a config that has or names them."""

from typing import Any

from kdjax import logits_file, rules
from kdjax.rules import InputError, check
from kdjax.teachers import Teacher, as_teacher, logits


def teachers_of(value: Any, path: str) -> tuple[str | Teacher, ...]:
    """The teachers of a stage: text with commas between names, or values, or a tuple of either.

    A name is a stage, a directory, the file of `logits` (.npz or .safetensors), or the
    module:attribute of a teacher or of a function without arguments that makes one, such as
    kdjax.teachers:peers.

    Args:
      path: of the field, for messages.

    Returns:
      Names of stages and of directories as they are, all others as teachers.

    Raises:
      InputError: there is no such module or file, or it is or makes no teacher.
    """
    found: list[str | Teacher] = []
    for each in value if isinstance(value, tuple | list) else (value,):
        if not isinstance(each, str):
            found.append(as_teacher(each, path))
            continue
        for name in filter(None, map(str.strip, check(rules.text(), path, each).split(","))):
            if name.endswith(logits_file.SUFFIXES):
                found.append(logits(name))
            elif rules.is_reference(name):
                found.append(_made(rules.resolve(name, path), f"{path}, {name!r},"))
            else:
                found.append(name)
    return tuple(found)


def _made(value: Any, path: str) -> Teacher:
    try:
        return as_teacher(value() if callable(value) else value, path)
    except InputError:
        raise
    except Exception as error:  # whatever a function of the user's raises
        raise InputError(f"{path} makes no teacher: {rules.told(error)}") from error
