"""Random folders and arrays: what is trained on is what an independent reader of the written rule
(docs/data.md) reads, or a refusal."""

import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdjax.data import DatasetSpec, arrays, load
from kdjax.rules import InputError

explore = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
SUFFIX = re.compile(r".*\.(png|jpe?g|jpe|jfif|webp|bmp|gif|tiff?|p[pgbn]m)$", re.IGNORECASE)
WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
JUNK = [
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "lost+found",
    "__pycache__",
    "thumbs.db",
    "desktop.ini",
]
MODES = ("L", "LA", "RGB", "RGBA", "P", "1")

names = st.sampled_from(["cat", "Dog", "10", "2", "1", "é", "a b", "train", "x.png", "_", "été"])
modes = st.sampled_from(MODES)
files = st.sampled_from(
    [
        *("0.png", "b.PNG", "c.bmp", "d.gif", "e.tiff", "sub/f.png", "sub/deep/g.png", "h.ppm"),
        *(".h.png", "note.txt", "i.heic", "Thumbs.db", ".cache/j.png", "__MACOSX/k.png", "noext"),
    ]
)
pictures = st.lists(st.tuples(files, modes), min_size=1, max_size=8, unique_by=lambda p: p[0])
one_split = st.dictionaries(names, pictures, min_size=1, max_size=4)
splits = st.sampled_from(["train", "Training", "test", "Testing", "val", "valid", "dev", "extra"])


def write(path, mode, seed):
    """An image of 4 x 4 pixels, no two of a tree alike, in a format that keeps the mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not SUFFIX.match(path.name):
        path.write_bytes(b"no image")
        return
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (4, 4, 4)).astype(np.uint8)
    image = Image.fromarray(pixels, "RGBA").convert(mode)
    if path.suffix.lower() in (".bmp", ".gif", ".ppm", ".jpg"):
        image = image.convert("RGB" if mode not in ("1", "L") else "L")
    image.save(path)


def seen(path):
    """Whether no part of a name is hidden or machine-made."""
    return not any(part.startswith(".") or part.casefold() in JUNK for part in path.parts)


def listing(folder):
    """Every file below, through links, by os.walk; relative."""
    found = [Path(at, file) for at, _, here in os.walk(folder, followlinks=True) for file in here]
    return [path.relative_to(folder) for path in found if seen(path.relative_to(folder))]


def in_order(classes):
    digits = all(re.fullmatch("[0-9]+", name) for name in classes)
    return sorted(sorted(classes), key=(lambda n: int(n)) if digits else str)


def pixels_of(path):
    """As eyes see it on white paper, in floats."""
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def read_by_the_rule(root):
    """{split: [(class, pixels)]}, or None where the rule wants a refusal."""
    paths = [path for path in listing(root) if SUFFIX.match(path.name)]
    tops = {p.name for p in root.iterdir() if p.is_dir() and seen(p.relative_to(root))}
    inner = {
        t: {p.name for p in (root / t).iterdir() if p.is_dir() and seen(Path(p.name))} for t in tops
    }
    named = [t for t in tops if t.casefold() in WORDS]
    if not any(inner[t] for t in named) and len({WORDS[t.casefold()] for t in named}) < 2:
        classes = {
            "all": {t: [p for p in paths if p.parts[0] == t and len(p.parts) > 1] for t in tops}
        }
        shared = set.intersection(*inner.values()) if inner else set()
        loose = any(len(p.parts) == 2 for p in paths)
        if len(tops) > 1 and len(shared) > 1 and not loose:
            return None
    else:
        use = {WORDS[t.casefold()]: t for t in named}
        if len(use) < len(named) or not {"train", "test"} <= use.keys():
            return None
        if not all(inner[t] for t in named):
            return None
        classes = {
            split: {
                c: [p for p in paths if p.parts[:2] == (t, c) and len(p.parts) > 2]
                for c in inner[t]
            }
            for split, t in use.items()
        }
    whole = classes.get("all", classes.get("train"))
    if len(whole) < 2 or not all(whole.values()):
        return None
    if any(set(own) - set(whole) or not any(own.values()) for own in classes.values()):
        return None
    return {
        split: [(c, pixels_of(root / p)) for c in in_order(own) for p in sorted(own[c])]
        for split, own in classes.items()
    }


def same_examples(dataset, split_names, expected):
    """Whether splits together have just these examples, each under its class's name."""
    key = lambda name, pixels: (name, np.round(pixels).astype(int).tobytes())
    found = []
    for split in split_names:
        inputs, labels = dataset.arrays(split)
        for pixels, label in zip(inputs, labels, strict=True):
            found.append((dataset.class_names[label], np.broadcast_to(pixels, (4, 4, 3))))
    assert len(found) == len(expected)
    left = list(expected)
    for name, pixels in found:
        near = lambda other, name=name, pixels=pixels: (
            other[0] == name and np.abs(other[1] - pixels).max() <= 1.01
        )
        place = next((i for i, other in enumerate(left) if near(other)), None)
        assert place is not None, (name, key(name, pixels))
        left.pop(place)


@pytest.mark.slow
@explore
@given(
    st.one_of(one_split, st.dictionaries(splits, one_split, min_size=1, max_size=4)),
    st.sets(names, max_size=2),
)
def test_what_is_trained_on_is_what_the_rule_says_or_a_refusal(tree, linked):
    with tempfile.TemporaryDirectory() as directory:
        root, aside = Path(directory, "set"), Path(directory, "aside")
        root.mkdir()
        seed = 0
        for top, inside in tree.items():
            deep = isinstance(inside, dict)
            for name, listed in (inside if deep else {"": inside}).items():
                place = root / top / name
                if name in linked and deep:  # the class's folder is a link
                    (aside / top).mkdir(parents=True, exist_ok=True)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    (aside / top / name).mkdir()
                    place.symlink_to(aside / top / name)
                    place = aside / top / name
                for file, mode in listed:
                    write(place / file, mode, seed := seed + 1)
        expected, spec = read_by_the_rule(root), DatasetSpec(name=f"{root}/")
        try:
            dataset = load(spec, "", "none")
        except InputError as error:
            assert "\n" not in str(error)
            few = "too few examples" in str(error) or "train split has none" in str(error)
            few |= "is a part of" in str(error)
            assert expected is None or few, str(error)
            return
        assert expected is not None
        assert list(dataset.class_names) == in_order({c for c, _ in next(iter(expected.values()))})
        again = [load(spec, "", str(Path(directory, "cache"))) for _ in range(2)]
        for other in again:
            assert (other.version, other.notes) == (dataset.version, dataset.notes)
        for data in (dataset, again[1]):
            if "all" in expected:
                same_examples(data, ("train", "validation", "test"), expected["all"])
                continue
            own = ("train",) if "validation" in expected else ("train", "validation")
            same_examples(data, own, expected["train"])
            for split in expected.keys() - {"train"}:
                same_examples(data, (split,), expected[split])


# Arrays.

shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)
labels = st.lists(st.integers(0, 4), min_size=6, max_size=30)


@explore
@given(shapes, labels, st.sampled_from(["uint8", "float32", "float64"]), st.data())
def test_arrays_are_trained_on_as_they_are_or_refused(shape, y, dtype, drawn):
    y = np.array(y)
    random = np.random.default_rng(len(y))
    x = random.integers(0, 255, (len(y), *shape)).astype(dtype)
    cut = drawn.draw(st.integers(1, len(y) - 1))
    train, test = (x[:cut], y[:cut]), (x[cut:], y[cut:])
    classes = set(y[:cut])
    first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3)
    gaps = classes != set(range(max(classes) + 1)) or len(classes) < 2
    try:
        dataset = load(DatasetSpec(), value=arrays(train, test))
    except InputError as error:
        few = re.search("too few examples|train split has none|is a part of", str(error))
        assert first or gaps or set(y[cut:]) - classes or few, str(error)
        return
    assert not (first or gaps or set(y[cut:]) - classes)
    shown = (*shape, 1) if len(shape) == 2 else shape
    inputs, found = dataset.arrays("test")
    np.testing.assert_array_equal(inputs, x[cut:].reshape(-1, *shown).astype(inputs.dtype))
    np.testing.assert_array_equal(found, y[cut:])
    parts = [dataset.splits[split] for split in ("train", "validation")]
    order = np.concatenate([part.index for part in parts])
    assert sorted(order) == list(range(cut))
    inputs = np.concatenate([dataset.arrays(split)[0] for split in ("train", "validation")])
    np.testing.assert_array_equal(inputs, x[order].reshape(-1, *shown).astype(inputs.dtype))
    np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), y[order])
