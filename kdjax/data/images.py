"""Image files as arrays of pixels. What cannot be seen in eight bits of grey or of red, green and
blue is composed on white, or refused."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kdjax.data.sources import one_line, printable
from kdjax.host import files
from kdjax.rules import InputError

ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # height and width change places; of TIFF, Pillow does
TIFF_BITS = 258  # the tag of how many bits each channel has
GREY, COLOURED = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # eight bits each
ONE_PICTURE = ("MPO",)  # of cameras: what comes after the first frame is made from it


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image say.

    Attributes:
      grey: whether it has one channel.
      shape: height and width, as it is seen.
      transparent: whether parts of it may be.
      frames: how many there are, of which the first is read.
    """

    grey: bool
    shape: tuple[int, int]
    transparent: bool
    frames: int


def header(path: Path, says: str) -> Header:
    """What a file says of its image.

    Raises:
      InputError: it is no image of 8 bits a channel; `says` begins the message.
    """
    try:
        with _opened(path) as image:
            _check_mode(image)
            turned = image.getexif().get(ORIENTATION, 1) in TURNED and image.format != "TIFF"
            shape = image.size if turned else image.size[::-1]
            one = image.format in ONE_PICTURE
            frames = 1 if one else getattr(image, "n_frames", 1)
            return Header(image.mode in GREY, shape, image.has_transparency_data, frames)
    except Exception as error:  # whatever a damaged file leads to; nothing in it is run
        raise InputError(f"{says}, where {_why(path, error)}") from error


def decode(paths: Sequence[Path], grey: bool, size: tuple[int, ...], says: str) -> np.ndarray:
    """[B, H, W, 1 or 3] uint8, transparent parts on white, of several frames the first.

    Args:
      size: width and height, to which every image is cropped and scaled; (): as it is.
      says: begins the message where one is no image.
    """

    def pixels(path: Path) -> np.ndarray:
        try:
            with _opened(path) as file:
                _check_mode(file)
                image = _opaque(ImageOps.exif_transpose(file)).convert("L" if grey else "RGB")
        except Exception as error:  # whatever a damaged file leads to; nothing in it is run
            raise InputError(f"{says}{_why(path, error)}") from error
        return scaled(image, size)

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(pixels, paths)))


def scaled(image: Image.Image, size: tuple[int, ...]) -> np.ndarray:
    """[H, W, C] of an image, cropped and scaled to `size`, width and height; (): as it is."""
    if size:
        image = ImageOps.fit(image, (size[0], size[1]), Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(image))


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
    return decode(found, channels == 1, (width, height), "the images are not all to be read: ")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image of a file, by a handle: of a path, Pillow 13 reads a turned, uncompressed TIFF with
    height and width in each other's place. A PNG is held against its checksums, which Pillow does
    not look at when it reads the pixels."""
    with path.open("rb") as file:
        with Image.open(file) as image:
            if image.format == "PNG":
                image.verify()
        file.seek(0)
        with Image.open(file) as image:
            yield image


def _opaque(image: Image.Image) -> Image.Image:
    """The image as it is seen on white paper."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _check_mode(image: Image.Image) -> None:
    if image.mode not in GREY + COLOURED:
        raise ValueError(f"its mode is {image.mode}; it must be {', '.join(GREY + COLOURED)}")
    tiles = getattr(image, "tile", ())  # how the file stores it; Pillow drops half of 16 bits
    stored = tiles[0].args if tiles else ""
    stored = (stored,) if isinstance(stored, str) else tuple(stored)
    deep = re.search(r";16\w", str(next(iter(stored), "")))  # BGR;16 is of 16 bits in all
    bits = getattr(image, "tag_v2", {}).get(TIFF_BITS, ())  # of each channel
    most = stored[1] if image.format == "PPM" and len(stored) > 1 else 0  # the largest value
    if deep or max(bits, default=8) > 8 or most > 255:
        raise ValueError("it has more than 8 bits a channel; it must have 8")


def _why(path: Path, error: Exception) -> str:
    unknown = isinstance(error, UnidentifiedImageError)
    reason = getattr(error, "strerror", None) or error  # without the number and the path
    why = "it is of no kind that Pillow knows" if unknown else one_line(reason)
    return f"{printable(str(path))} cannot be read as an image: {why}"
