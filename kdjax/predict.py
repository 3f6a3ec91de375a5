"""Says of images which class a net takes them for, and with what probability.

python -m kdjax.predict STAGE_OR_EXPORT IMAGE ...

The net is a folder that `Stage.export` has written, or the directory of a finished stage, of which
the member with the fewest validation errors is asked. Images are read as those of a folder are:
turned as their camera says, cropped to the shape of the net's inputs and scaled to it, grey where
the net's are. If one file is no image, all are refused. Probabilities are the softmax of the
logits.
"""

import sys
from collections.abc import Sequence

import numpy as np

from kdjax.exported import Exported, open_export
from kdjax.exported.forms import PARAMETERS, PROGRAM
from kdjax.host import files, machine
from kdjax.host.checkpoint import CHECKPOINTS
from kdjax.main import BAD_INPUT, quiet
from kdjax.rules import InputError
from kdjax.stage import Stage, open_stage

USAGE = "python -m kdjax.predict STAGE_OR_EXPORT IMAGE [IMAGE ...]"


def main(arguments: Sequence[str]) -> None:
    """Prints a line for each image: path, class, probability."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    quiet()
    machine.use_machine()
    try:
        print("\n".join(lines(arguments)))
    except InputError as error:
        print(f"kdjax: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def lines(arguments: Sequence[str]) -> list[str]:
    """What is printed.

    Raises:
      InputError: arguments are missing, the net cannot be opened, or a file is no image for it.
    """
    flags = [argument for argument in arguments if argument.startswith("--")]
    if flags:
        raise InputError(f"{flags[0]!r} is no argument; the command is {USAGE}")
    if len(arguments) < 2:
        lacking = "an image" if arguments else "a stage or an export"
        raise InputError(f"{lacking} is missing; the command is {USAGE}")
    machine.check_devices()
    path, *images = arguments
    net = opened(path)
    logits = net.predict(net.read_images(images))
    logits = logits[0] if isinstance(net, Stage) else logits
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    chances = shifted / shifted.sum(axis=1, keepdims=True)
    best = chances.argmax(axis=1)
    names = [net.class_names[c] for c in best]
    return [
        f"{image}: {name} {row[c]:.4f}"
        for image, name, row, c in zip(images, names, chances, best, strict=True)
    ]


def opened(path: str) -> Stage | Exported:
    """The exported net, or the best member of the finished stage, of this directory."""
    folder = files.expand(path)
    if not folder.is_dir():
        raise InputError(
            f"{path!r} is no directory; it must be that of a finished stage, or of an exported net"
        )
    is_stage = (folder / CHECKPOINTS).is_dir()
    is_export = any((folder / name).exists() for name in (PROGRAM, PARAMETERS)) and not is_stage
    return open_export(folder) if is_export else open_stage(folder).best()


if __name__ == "__main__":
    main(sys.argv[1:])
