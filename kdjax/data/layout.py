"""Which files of a folder are images of which class and split, and what of it is not read.

    ROOT/CLASS/IMAGE        or  ROOT/train/CLASS/IMAGE, ROOT/test/CLASS/IMAGE and perhaps
                                ROOT/validation/CLASS/IMAGE
    and perhaps ROOT/unlabelled/IMAGE

Below the folder of a class, images may stand in folders of any depth. Links are followed.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdjax.data.classes import composed, ordered
from kdjax.data.sources import SPLIT_NAMES, UNLABELLED, printable
from kdjax.rules import InputError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
MACHINE_MADE = {  # folders and files that programs put beside the images
    *("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information"),
    *("lost+found", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}


@dataclass(frozen=True)
class Layout:
    """What is read.

    Attributes:
      class_names: [C], in the order of the labels.
      images: split to its files and their labels [n], -1 where a file is unlabelled: "train",
        "test" and perhaps "validation", or "all".
      notes: what is not read, a line each.
    """

    class_names: tuple[str, ...]
    images: Mapping[str, tuple[list[Path], np.ndarray]]
    notes: tuple[str, ...]


def layout(root: Path, says: str) -> Layout:
    """The images of a folder, each split's sorted by class and path, unlabelled ones last.

    Args:
      says: begins the message where the folder cannot be used.

    Raises:
      InputError: it is no such folder, or cannot be read.
    """
    try:
        return _layout(root, says)
    except OSError as error:
        name = printable(str(error.filename))
        raise InputError(f"{says}, where {name} cannot be read ({error.strerror})") from error


def walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Every folder and file below, also through links, less what is hidden or machine-made; an
    OSError where a folder cannot be read.

    Args:
      above: folders into which no link leads back.
    """
    here = os.path.realpath(folder)
    if here in above:
        return
    for path in _entries(folder):
        yield path
        if path.is_dir():
            yield from walk(path, above | {here})


def real(*folders: Path) -> frozenset[str]:
    return frozenset(map(os.path.realpath, folders))


def _entries(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    kept = [n for n in names if not n.startswith(".") and n.casefold() not in MACHINE_MADE]
    return [folder / name for name in sorted(kept)]


def _layout(root: Path, says: str) -> Layout:
    if not root.exists():
        raise InputError(f"{says}; there is no such folder")
    if not root.is_dir():
        raise InputError(f"{says}; it must be a folder of images, for its name ends in /")
    every = [path for path in _entries(root) if path.is_dir()]
    unlabelled = [path for path in every if path.name.casefold() in UNLABELLED]
    folders = [path for path in every if path not in unlabelled]
    splits = _splits(folders, says)
    holders = splits or {"all": root}
    first = next(iter(holders.values()))
    inside = {s: _classes(at, unlabelled, says) for s, at in holders.items()}
    names = ordered(next(iter(inside.values())))
    _check_classes(first, names, inside, says)
    if not splits:
        _check_no_splits(list(inside["all"].values()), says)
    above = real(root.parent, root)
    found = {
        s: _images(holders[s], own, names, above, says, s in ("train", "all"))
        for s, own in inside.items()
    }
    more = [p for at in unlabelled for p in sorted(filter(_is_image, walk(at, above)))]
    paths, labels = next(iter(found.values()))
    whose = "train" if splits else "all"
    found[whose] = paths + more, np.concatenate([labels, np.full(len(more), -1)])
    beside = [path for path in folders if splits and path not in splits.values()]
    return Layout(tuple(names), found, tuple(_notes(root, holders, found, names, beside)))


def _splits(folders: list[Path], says: str) -> dict[str, Path]:
    """The folders that are splits, train first; none where the folders are classes.

    One that is named train and has images in it, and no folders, may be a class: a picture of one.
    """
    named = {s: [p for p in folders if p.name.casefold() in SPLIT_NAMES[s]] for s in SPLIT_NAMES}
    named = {split: paths for split, paths in named.items() if paths}
    among = [path for paths in named.values() for path in paths]
    deep = [path for path in among if any(inner.is_dir() for inner in _entries(path))]
    listed = lambda paths: " and ".join(printable(path.name) for path in paths)
    if not deep and len(named) < 2:
        odd = [path for path in among if path.name.casefold() != "train"]
        if odd:
            raise InputError(
                f"{says}, whose {listed(odd)} has no folders, and has the name of a split; a split "
                "must have a folder of each class, and a class another name"
            )
        return {}
    twice = next((paths for paths in named.values() if len(paths) > 1), None)
    if twice:
        raise InputError(f"{says}, whose folders {listed(twice)} are one split; keep one of them")
    if "train" not in named or "test" not in named:
        absent = "train" if "train" not in named else "test"
        raise InputError(
            f"{says}, which has a folder {listed(among)} and no {absent}; it must have both train "
            "and test or none"
        )
    flat = [path for path in among if path not in deep]
    if flat:
        raise InputError(
            f"{says}, whose {listed(flat)} has no folders; it must have one of each class"
        )
    return {split: named[split][0] for split in SPLIT_NAMES if split in named}


def _classes(folder: Path, unlabelled: list[Path], says: str) -> dict[str, Path]:
    """The folders of classes by their names, in Unicode's composed form."""
    paths = [p for p in _entries(folder) if p.is_dir() and p not in unlabelled]
    within = [path for path in paths if path.name.casefold() in UNLABELLED]
    if within:
        raise InputError(
            f"{says}, whose {printable(folder.name)} has a folder {printable(within[0].name)}; it "
            "must stand beside the splits, for its images are of no class"
        )
    found: dict[str, Path] = {}
    for path in paths:
        name = composed(path.name)
        if name in found:
            raise InputError(
                f"{says}, where two folders of {printable(folder.name)} are named "
                f"{printable(name)!r}, in two forms of Unicode; keep one of them"
            )
        found[name] = path
    return found


def _check_classes(
    first: Path, names: list[str], inside: Mapping[str, Mapping[str, Path]], says: str
) -> None:
    listed = lambda names: ", ".join(map(printable, names))
    if len(names) < 2:
        within = first / names[0] if names else first
        deeper = [p for p in _entries(within) if p.is_dir()] if names else []
        hint = f"; did you mean {printable(str(within))}/?" * (len(deeper) > 1)
        raise InputError(
            f"{says}, which has {len(names)} folders; it must have at least two, of images of a "
            f"class each, or train and test with such folders{hint}"
        )
    for split, own in inside.items():
        unknown = set(own) - set(names)
        if unknown:
            raise InputError(
                f"{says}, whose {split} has {listed(sorted(unknown))}; its classes must be those "
                f"of train: {listed(names)}"
            )


def _check_no_splits(classes: list[Path], says: str) -> None:
    """Folders that are no classes: with the same folders in all of them and no images beside they
    are splits of some name, and one with a train and a test folder holds splits."""
    entries = [_entries(path) for path in classes]
    inner = [{path.name for path in within if path.is_dir()} for within in entries]
    for path, within in zip(classes, inner, strict=True):
        named = {
            s: [n for n in sorted(within) if n.casefold() in SPLIT_NAMES[s]] for s in SPLIT_NAMES
        }
        if named["train"] and (named["test"] or named["validation"]):
            both = [names[0] for names in named.values() if names]
            raise InputError(
                f"{says}, whose {printable(path.name)} has the folders {' and '.join(both)}, which "
                "are named as splits; splits must stand above the classes, such as "
                f"{both[0]}/{printable(path.name)}/"
            )
    shared = sorted(set.intersection(*inner))
    if len(shared) > 1 and not any(map(_is_image, itertools.chain(*entries))):
        names = ", ".join(printable(path.name) for path in classes[:4])
        raise InputError(
            f"{says}, whose folders {names} have the same folders in them, "
            f"{', '.join(map(printable, shared[:4]))}, as splits have; splits must be named train, "
            "test and perhaps validation, and classes must have folders of their own"
        )


def _images(
    folder: Path,
    own: Mapping[str, Path],
    names: list[str],
    above: frozenset[str],
    says: str,
    every: bool,
) -> tuple[list[Path], np.ndarray]:
    """The images of a split, sorted by class and path, and their labels.

    Args:
      above: folders into which no link leads back, beside the split's own.
      every: whether each class must have one.
    """
    above |= real(folder)
    paths = [sorted(filter(_is_image, walk(own[n], above))) if n in own else [] for n in names]
    empty = [name for name, found in zip(names, paths, strict=True) if not found]
    if empty and (every or len(empty) == len(names)):
        raise InputError(
            f"{says}, where {printable(folder.name)} has no image of "
            f"{', '.join(map(printable, empty))}; there must be one of every class, of a kind "
            f"{', '.join(SUFFIXES)}"
        )
    labels = np.repeat(np.arange(len(names)), [len(found) for found in paths])
    return [path for found in paths for path in found], labels


def _notes(
    root: Path,
    holders: Mapping[str, Path],
    found: Mapping[str, tuple[list[Path], np.ndarray]],
    names: list[str],
    beside: list[Path],
) -> Iterator[str]:
    """What is not read."""
    read = {path for paths, _ in found.values() for path in paths}
    files = [p for p in walk(root, real(root.parent)) if not p.is_dir() and p not in read]
    kinds = Counter(p.suffix.lower() or "without suffix" for p in files if not _is_image(p))
    ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count} {printable(kind)}" for kind, count in ranked]
    images = [path for path in files if _is_image(path)]
    for folder in beside:
        count = sum(folder in path.parents for path in images)
        parts += [f"{count} images in {printable(folder.name)}, which is no split"] * bool(count)
    loose = sum(path.parent in (root, *holders.values()) for path in images)
    parts += [f"{loose} images in no folder of a class"] * bool(loose)
    if parts:
        yield f"not read: {', '.join(parts)}"


def _is_image(path: Path) -> bool:
    """Whether it is, or was: a link to nothing is no image when it is opened, and says so."""
    broken = path.is_symlink() and not path.exists()
    return path.suffix.lower() in SUFFIXES and (path.is_file() or broken)
