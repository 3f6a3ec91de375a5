"""Sets that are folders of images, one folder for each class; `layout` says which."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data import cache
from kdjax.data.images import Header, decode, header
from kdjax.data.layout import Layout, layout, real, walk
from kdjax.data.sources import FIELD, RawSet, all_of, printable
from kdjax.host import files
from kdjax.host.versions import installed
from kdjax.rules import InputError


class ManySizes(InputError):
    """The images have more than one size, and none to which they are scaled is given."""


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
        return decode([self.paths[i] for i in indices], self.grey, self.size, f"{FIELD}: ")


def from_folder(name: str, size: int, cache_dir: str) -> RawSet:
    """The splits, or one named "all", the classes' names, by which they are numbered, and the
    SHA-256 of all files.

    Args:
      name: the path of the folder.
      size: of every image, pixels; 0: as they are.
      cache_dir: as of `cache.cached`.
    """
    root = files.expand(name).absolute()
    place = f"{root} at {size or 'its own size'}"
    return cache.cached(name, place, lambda: _state(root), lambda: _read(root, size), cache_dir)


def image_sizes(name: str) -> Iterator[tuple[int, int]]:
    """Height and width of every image that is read of a folder, from the files' first bytes."""
    root = files.expand(name).absolute()
    says = f"{FIELD} is {f'{root}/'!r}"
    for paths, _ in layout(root, says).images.values():
        yield from (header(path, says).shape for path in paths)


def _state(root: Path) -> dict[str, Any]:
    """What determines the content: all that is read, as it is, and who decodes it."""
    paths = sorted(walk(root, real(root.parent)))
    return {"files": cache.stamps(paths, root), "versions": installed(["pillow"])}


def _read(root: Path, size: int) -> RawSet:
    says = f"{FIELD} is {f'{root}/'!r}"
    found = layout(root, says)
    headers = {path: header(path, says) for paths, _ in found.images.values() for path in paths}
    if not size:
        _check_sizes(headers, says)
    grey, scaled = all(h.grey for h in headers.values()), (size, size) if size else ()
    splits = {
        split: all_of(FolderSource(paths, labels, grey, scaled))
        for split, (paths, labels) in found.images.items()
    }
    version = _digest(root, found, any(h.transparent for h in headers.values()))
    notes = (*found.notes, *_seen(headers))
    return RawSet(splits, found.class_names, version, notes=notes)


def _seen(headers: dict[Path, Header]) -> list[str]:
    """What is not read of images as it stands in their files."""
    clear = sum(h.transparent for h in headers.values())
    several = sum(h.frames > 1 for h in headers.values())
    found = [f"{clear} images may have transparent parts, which are white"] * bool(clear)
    return found + [f"{several} images have several frames, of which the first is read"] * bool(
        several
    )


def _check_sizes(headers: dict[Path, Header], says: str) -> None:
    first = next(iter(headers))
    for path, here in headers.items():
        if here.shape != headers[first].shape:
            one, other = printable(str(path)), printable(str(first))
            raise ManySizes(
                f"{says}, which has images of more than one size, {one} of {here.shape} and "
                f"{other} of {headers[first].shape}; config.dataset.image_size must say to what "
                "size they are scaled"
            )


def _digest(root: Path, found: Layout, on_white: bool) -> str:
    """The SHA-256 of all files in the order of their classes."""
    digest = hashlib.sha256()
    for paths, _ in found.images.values():
        for path in paths:
            digest.update(os.fsencode(path.relative_to(root)) + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(b"on white" * on_white)
    return digest.hexdigest()
