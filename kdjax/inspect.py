"""Prints what kdjax sees in a data set, and draws examples of its classes.

    python -m kdjax.inspect PATH [--picture examples.png] [--image_size 64]

PATH is a folder of images, an .npz file, or any other name that a config's dataset may have. The
function `kdjax.inspect` does the same in Python.
"""

import argparse
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdjax import drawing
from kdjax.main import BAD_INPUT
from kdjax.overview import Overview, inspect
from kdjax.rules import InputError


class _CallableModule(types.ModuleType):
    """Importing this module puts it in the place of the function `kdjax.inspect`, and so it can be
    called as that."""

    def __call__(self, *arguments: Any, **fields: Any) -> Overview:
        return inspect(*arguments, **fields)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 where the data set cannot be used."""
    about = (__doc__ or "").strip().splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m kdjax.inspect", description=about)
    parser.add_argument("path", help="a folder of images, an .npz file, or the name of a data set")
    parser.add_argument("--picture", help="a .png file to draw examples of each class in")
    parser.add_argument("--image_size", type=int, default=0, help="to which images are scaled")
    parser.add_argument("--train_splits", default="", help="of a TFDS set, joined by +")
    parser.add_argument("--test_splits", default="", help="of a TFDS set, joined by +")
    parser.add_argument("--data_dir", default="", help="where TFDS sets are prepared")
    given = vars(parser.parse_args(arguments))
    picture, path = given.pop("picture"), given.pop("path")
    try:
        found = inspect(path, **given)
        print(found)
        if picture:
            Path(picture).expanduser().write_bytes(drawing.png(found.figure()))
            print(f"examples of each class: {picture}")
    except (InputError, OSError) as error:
        print(f"kdjax: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
else:
    sys.modules[__name__].__class__ = _CallableModule
