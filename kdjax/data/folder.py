"""Sets that are folders of images, one folder for each class, as torchvision's ImageFolder has it.

ROOT/CLASS/IMAGE, or ROOT/train/CLASS/IMAGE, ROOT/test/CLASS/IMAGE and perhaps ROOT/validation
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from kdjax.data import cache
from kdjax.data.sources import FIELD, RawSet, all_of, one_line, printable
from kdjax.host import files
from kdjax.host.versions import installed
from kdjax.rules import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")  # others are skipped
SPLITS = ("train", "test", "validation")
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF: height and width change places
GREY, COLOURED = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # eight bits each


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Images [H, W, 1] where all are grey, else [H, W, 3], uint8."""

    paths: Sequence[Path]  # N
    targets: np.ndarray  # [N]
    grey: bool
    size: tuple[int, ...]  # width, height, to which every image is cropped and scaled; (): as it is

    def labels(self) -> np.ndarray:
        return self.targets.astype(np.int32)

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        return _decode([self.paths[i] for i in indices], self.grey, self.size, f"{FIELD} has ")


def read_images(paths: str | Path | Iterable[str | Path], shape: tuple[int, ...]) -> np.ndarray:
    """[B, H, W, C] uint8, C 1 or 3: image files as a folder's are read, for inputs [H, W, C].

    Raises:
      InputError: a file is no image of 8 bits a channel.
    """
    height, width, channels = shape
    paths = [paths] if isinstance(paths, str | Path) else paths
    found = [files.expand(path) for path in paths]
    if not found:
        return np.zeros((0, *shape), np.uint8)
    return _decode(found, channels == 1, (width, height), "the images have ")


def _decode(paths: Sequence[Path], grey: bool, size: tuple[int, ...], says: str) -> np.ndarray:
    """[B, H, W, 1 or 3] uint8; `says` begins the message where one is no image."""

    def pixels(path: Path) -> np.ndarray:
        try:
            with Image.open(path) as file:
                if file.mode not in GREY + COLOURED:
                    raise ValueError(f"it is of mode {file.mode}, not of 8 bits a channel")
                image = ImageOps.exif_transpose(file).convert("L" if grey else "RGB")
        except Exception as error:  # whatever a damaged file leads to; nothing in it is run
            name, why = printable(str(path)), one_line(error)
            raise InputError(f"{says}{name}, which is no image: {why}") from error
        return scaled(image, size)

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(pixels, paths)))


def scaled(image: Image.Image, size: tuple[int, ...]) -> np.ndarray:
    """[H, W, C] of an image, cropped and scaled to `size`, width and height; (): as it is."""
    if size:
        image = ImageOps.fit(image, (size[0], size[1]), Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(image))


def from_folder(name: str, size: int, cache_dir: str) -> RawSet:
    """The splits, or one named "all", the classes' names, sorted, by which they are numbered, and
    the SHA-256 of all files.

    Args:
      name: the path of the folder.
      size: of every image, pixels; 0: as they are.
      cache_dir: as of `cache.cached`.
    """
    root = files.expand(name).absolute()
    place = f"{root} at {size or 'its own size'}"
    return cache.cached(name, place, lambda: _state(root), lambda: _read(root, size), cache_dir)


def image_sizes(name: str) -> Iterator[tuple[int, int]]:
    """Height and width of every image below a folder, from the files' first bytes; an OSError where
    a folder cannot be read."""
    root = files.expand(name).absolute()
    says = f"{FIELD} is {f'{root}/'!r}"
    for path in filter(_is_image, _walk(root, _real(root.parent))):
        yield _header(path, says)[1]


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Every folder and file below, also through links, less what is hidden; an OSError where a
    folder cannot be read.

    Args:
      above: folders into which no link leads back.
    """
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in found:
        yield Path(entry.path)
        if entry.is_dir():
            yield from _walk(Path(entry.path), above | {here})


def _real(*folders: Path) -> frozenset[str]:
    return frozenset(map(os.path.realpath, folders))


def _state(root: Path) -> dict[str, Any]:
    """What determines the content: all that is read, as it is, and who decodes it."""
    found = [(path, path.stat()) for path in sorted(_walk(root, _real(root.parent)))]
    files = [(str(path.relative_to(root)), s.st_size, s.st_mtime_ns) for path, s in found]
    return {"files": files, "versions": installed(["pillow"])}


def _read(root: Path, size: int) -> RawSet:
    says = f"{FIELD} is {f'{root}/'!r}"
    if not root.exists():
        raise InputError(f"{says}; there is no such folder")
    if not root.is_dir():
        raise InputError(f"{says}; it must be a folder of images, for its name ends in /")
    folders = {split: root / split for split in SPLITS if (root / split).is_dir()}
    if "train" not in folders:
        folders = {"all": root}
    elif "test" not in folders:
        raise InputError(f"{says}, which has a folder train and no test; it must have both or none")
    classes = _folders(next(iter(folders.values())))
    if len(classes) < 2:
        raise InputError(
            f"{says}, which has {len(classes)} folders; it must have at least two, of images of a "
            "class each, or train and test with such folders"
        )
    found = {split: _paths(folder, classes, says) for split, folder in folders.items()}
    headers = {path: _header(path, says) for paths, _ in found.values() for path in paths}
    if not size:
        _check_sizes({path: shape for path, (_, shape) in headers.items()}, says)
    grey = {mode for mode, _ in headers.values()} <= set(GREY)
    scaled = (size, size) if size else ()
    splits = {s: all_of(FolderSource(paths, t, grey, scaled)) for s, (paths, t) in found.items()}
    return RawSet(splits, tuple(classes), _digest(root, found))


def _folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _paths(folder: Path, classes: list[str], says: str) -> tuple[list[Path], np.ndarray]:
    """The images of a split, sorted by class and name, and their classes' numbers."""
    listed = lambda names: ", ".join(map(printable, names))
    unknown = set(_folders(folder)) - set(classes)
    if unknown:
        raise InputError(
            f"{says}, whose {folder.name} has {listed(sorted(unknown))}; its classes must be "
            f"those of train: {listed(classes)}"
        )
    above = _real(folder.parent, folder)
    try:
        found = [sorted(filter(_is_image, _walk(folder / name, above))) for name in classes]
    except OSError as error:
        why = f"{printable(str(error.filename))} cannot be read ({error.strerror})"
        raise InputError(f"{says}, where {why}") from error
    empty = [name for name, paths in zip(classes, found, strict=True) if not paths]
    if empty:
        raise InputError(
            f"{says}, where {folder.name} has no image of {listed(empty)}; there must be one "
            f"of every class, of a kind {', '.join(SUFFIXES)}"
        )
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in found])
    return [path for paths in found for path in paths], labels


def _is_image(path: Path) -> bool:
    """Whether it is, or was: a link to nothing is no image when it is opened, and says so."""
    broken = path.is_symlink() and not path.exists()
    return path.suffix.lower() in SUFFIXES and (path.is_file() or broken)


def _header(path: Path, says: str) -> tuple[str, tuple[int, int]]:
    """How an image is stored, and its height and width as it is seen, from its first bytes."""
    try:
        with Image.open(path) as image:
            mode, turned = image.mode, image.getexif().get(ORIENTATION, 1) in TURNED
            shape = image.size if turned else image.size[::-1]
    except Exception as error:  # whatever a damaged file leads to; nothing in it is run
        name = printable(str(path))
        raise InputError(f"{says}, where {name} is no image: {one_line(error)}") from error
    if mode not in GREY + COLOURED:
        name = printable(str(path))
        raise InputError(f"{says}, where {name} is of mode {mode}; it must have 8 bits a channel")
    return mode, shape


def _check_sizes(shapes: dict[Path, tuple[int, int]], says: str) -> None:
    first = next(iter(shapes))
    for path, shape in shapes.items():
        if shape != shapes[first]:
            one, other = printable(str(path)), printable(str(first))
            raise InputError(
                f"{says}, which has images of more than one size, {one} of {shape} and {other} of "
                f"{shapes[first]}; config.dataset.image_size must say to what size they are scaled"
            )


def _digest(root: Path, found: dict[str, tuple[list[Path], np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for paths, _ in found.values():
        for path in paths:
            digest.update(os.fsencode(path.relative_to(root)) + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
