"""What of an image's content is kept, and what is refused or said; in folders, arrays, predict."""

import random
import struct
import zlib

import numpy as np
import pytest
from mutations import mutated
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits
from stages import refuses

from kdjax.data import DatasetSpec, arrays, load
from kdjax.data.images import ORIENTATION, decode, header, read_images
from kdjax.rules import InputError

IMAGES = (load_digits().images * 15).astype(np.uint8)


def drawing(mode):
    """A black disc on nothing."""
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse([3, 3, 12, 12], fill=(0, 0, 0, 255))
    if mode == "P":
        found = Image.new("P", (16, 16), 0)
        found.putpalette([9, 9, 9, 0, 0, 0])
        found.paste(1, mask=image.getchannel("A"))
        found.info["transparency"] = 0
        return found
    if mode in ("L", "RGB"):  # one colour is said to be transparent
        found = Image.new(mode, (16, 16), 1 if mode == "L" else (1, 1, 1))
        found.paste(0, mask=image.getchannel("A"))
        found.info["transparency"] = 1 if mode == "L" else (1, 1, 1)
        return found
    return image.convert(mode)


def on_white():
    white = Image.new("L", (16, 16), 255)
    white.paste(0, mask=drawing("RGBA").getchannel("A"))
    return np.asarray(white)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_white(tmp_path, mode, channels):
    drawing(mode).save(tmp_path / "t.png")
    assert header(tmp_path / "t.png", "").transparent
    found = read_images(tmp_path / "t.png", (16, 16, channels))[0]
    for channel in np.moveaxis(found, -1, 0):
        np.testing.assert_array_equal(channel, on_white())


def test_what_is_half_transparent_is_mixed_with_white(tmp_path):
    Image.new("RGBA", (4, 4), (100, 0, 200, 128)).save(tmp_path / "h.png")
    found = read_images(tmp_path / "h.png", (4, 4, 3))[0, 0, 0]
    np.testing.assert_allclose(found, 255 + (np.array([100, 0, 200]) - 255.0) * 128 / 255, atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_opaque_is_as_it_was(tmp_path, mode):
    Image.fromarray(IMAGES[0]).convert(mode).save(tmp_path / "o.png")
    found = read_images(tmp_path / "o.png", (8, 8, 1))[0, ..., 0]
    np.testing.assert_array_equal(found, IMAGES[0])


def test_a_folder_of_drawings_is_read_as_predict_reads_them_and_says_so(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(10):
            image = drawing("RGBA")
            image.putpixel((i, 0), (i, 2 * i, 200 * (label == "b"), 255))
            image.save(tmp_path / label / f"{label}{i}.png")
    dataset = load(DatasetSpec(name=f"{tmp_path}/"), "", "none")
    assert dataset.notes == ("20 images may have transparent parts, which are white",)
    train = dataset.splits["train"]
    paths = [train.source.paths[place] for place in train.index]
    inputs, _ = dataset.arrays("train")
    np.testing.assert_array_equal(inputs, read_images(paths, (16, 16, 3)))
    assert inputs.mean() > 100
    opaque = tmp_path / "opaque"
    for label in ("a", "b"):
        (opaque / label).mkdir(parents=True)
        for path in (tmp_path / label).iterdir():
            Image.fromarray(read_images(path, (16, 16, 3))[0]).save(opaque / label / path.name)
    assert not load(DatasetSpec(name=f"{opaque}/"), "", "none").notes


@pytest.mark.parametrize("suffix", ["gif", "tiff", "png", "webp"])
def test_of_several_frames_the_first_is_read_and_they_are_counted(tmp_path, suffix):
    frames = [Image.fromarray(np.kron(IMAGES[i], np.ones((4, 4), np.uint8))) for i in range(3)]
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(6):
            frames[0].save(tmp_path / label / f"{i}.png")
    path = tmp_path / "a" / f"many.{suffix}"
    more = dict(lossless=True) if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **more)
    assert header(path, "").frames == 3
    found = read_images(path, (32, 32, 1))[0, ..., 0]
    np.testing.assert_allclose(found.astype(int), np.asarray(frames[0]), atol=2)
    dataset = load(DatasetSpec(name=f"{tmp_path}/"), "", "none")
    assert "1 images have several frames, of which the first is read" in dataset.notes


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "LAB"])
def test_modes_of_other_than_eight_bits_of_colour_are_refused(tmp_path, mode):
    path = tmp_path / "deep.tiff"
    Image.new("LAB" if mode == "LAB" else mode, (8, 8)).save(path)
    with refuses("deep.tiff cannot be read as an image: its mode is", "must be 1, L, LA, P"):
        read_images(path, (8, 8, 1))
    with refuses("SET, where", "its mode is"):
        header(path, "SET")


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """[H, W, C] as PNG, which Pillow reads and does not write."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    part = lambda name, data: (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    )
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_16_bits_a_channel_are_refused(tmp_path, channels):
    path = tmp_path / "deep.png"
    path.write_bytes(png_of_16_bits(np.full((8, 8, channels), 4095)))
    words = (
        "its mode is I;16" if channels == 1 else "it has more than 8 bits a channel; it must have 8"
    )
    with refuses(f"deep.png cannot be read as an image: {words}"):
        read_images(path, (8, 8, 1))
    with refuses("SET, where", words):
        header(path, "SET")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_the_shape_of_a_turned_image_is_that_of_its_pixels(tmp_path, suffix):
    path, exif = tmp_path / f"turned.{suffix}", Image.Exif()
    pixels = np.vstack([np.full((4, 20), 200, np.uint8), np.zeros((6, 20), np.uint8)])
    exif[ORIENTATION] = 6  # a quarter to the right
    Image.fromarray(pixels).save(path, exif=exif)
    assert header(path, "").shape == (20, 10)
    found = decode([path], True, (), "")[0, ..., 0].astype(int)
    np.testing.assert_allclose(found, pixels.T[:, ::-1], atol=40)


def test_a_png_that_is_damaged_is_refused_or_reads_the_same(tmp_path):
    """Its checksums tell; a JPEG has none."""
    path, refused = tmp_path / "digit.png", 0
    Image.fromarray(IMAGES[0].repeat(4, 0).repeat(4, 1)).save(path)
    content, whole = path.read_bytes(), decode([path], True, (), "")
    for seed in range(300):
        path.write_bytes(mutated(content, random.Random(seed)))
        try:
            found = decode([path], True, (), "")
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and "digit.png cannot be read as an image" in str(error)
        else:
            np.testing.assert_array_equal(found, whole)
    assert refused > 200


def test_an_image_that_is_too_large_says_so(tmp_path, monkeypatch):
    Image.new("L", (64, 64)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with refuses("large.png cannot be read as an image: Image size (4096 pixels) exceeds limit"):
        read_images(tmp_path / "large.png", (8, 8, 1))


# Arrays.


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (3, 8, 4), (1, 28, 28)])
def test_arrays_whose_channels_come_first_are_refused(tmp_path, shape):
    x, y = np.zeros((12, *shape), np.uint8), np.arange(12) % 2
    message = "channels, H, W]; it must be [N, H, W, channels], as numpy.moveaxis(inputs, 1, -1)"
    with refuses(f"train_inputs have shape (12, {', '.join(map(str, shape))})", message):
        arrays((x, y), (x, y))
    pair = np.moveaxis(x, 1, -1), y
    assert load(DatasetSpec(), value=arrays(pair, pair)).input_shape == (*shape[1:], shape[0])
    for kept in ((1, 28, 1), (3, 3, 3), (8, 8, 5), (3, 5, 1)):
        pair = np.zeros((12, *kept), np.uint8), y
        assert load(DatasetSpec(), value=arrays(pair, pair)).input_shape == kept


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0, 1, 2, 4] * 5), "train_labels have none of 3 among 0 to 4"),
        (np.arange(20) % 5 + 1, "train_labels have none of 0 among 0 to 5"),
        (np.array([0, 9] * 10), "have none of 1, 2, 3, 4, 5, 6 and 2 more among 0 to 9"),
    ],
)
def test_labels_with_gaps_are_refused_unless_the_classes_are_named(labels, words):
    pair = IMAGES[:20], labels
    with refuses("arrays:", words, "class_names must name them all"):
        arrays(pair, pair)
    named = arrays(pair, pair, class_names=[f"class {n}" for n in range(labels.max() + 1)])
    assert load(DatasetSpec(), value=named).classes == labels.max() + 1


def test_classes_that_are_tested_and_not_trained_are_named():
    names = ["cat", "dog", "gnu", "ox"]
    train, test = np.array([0, 1] * 10), np.arange(20) % 4
    data = arrays((IMAGES[:20], train), (IMAGES[20:40], test), class_names=names)
    with refuses("whose test split has examples of 'gnu', 'ox', of which the train split has none"):
        load(DatasetSpec(), value=data)
    data = arrays(
        (IMAGES[:20], train),
        (IMAGES[20:40], train),
        validation=(IMAGES[20:40], test),
        class_names=names,
    )
    with refuses("whose validation split has examples of 'gnu', 'ox'"):
        load(DatasetSpec(), value=data)
