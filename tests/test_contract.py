"""The public names: the page of them, `__all__`, and what stands behind each."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
MODULES = ("kdjax", "kdjax.losses", "kdjax.metrics", "kdjax.teachers", "kdjax.figures")
NAMES = [
    "run",
    "train",
    "distill",
    "open_stage",
    "open_export",
    "examples",
    "inspect",
    "arrays",
    "linen",
    "nnx",
    "equinox",
    "function",
    "logits",
    "save_logits",
    "with_class_names",
    "use_machine",
    "Report",
    "Stage",
    "Exported",
    "Net",
    "Term",
    "Teacher",
]
CONSTANTS = {"TERMS", "MEANS", "COLOURS", "LINES", "INK", "MUTED"}


def on_the_page():
    """{module: the names of its table}."""
    parts = re.split(r"^## `(.+)`$", PAGE, flags=re.MULTILINE)[1:]
    find = re.compile(r"^\| `(\w+)` \| \S", re.MULTILINE)
    return {m: find.findall(text) for m, text in zip(parts[::2], parts[1::2], strict=True)}


NAMED = [(module, name) for module, names in on_the_page().items() for name in names]


def test_the_contract_is_these_names():
    assert sorted(on_the_page()["kdjax"]) == sorted(NAMES)


def test_the_page_has_these_modules():
    assert tuple(on_the_page()) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_the_page_and_the_module_name_the_same(module):
    names = on_the_page()[module]
    assert sorted(names) == sorted(importlib.import_module(module).__all__)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("module", "name"), NAMED)
def test_a_public_name_has_a_docstring_of_its_own(module, name):
    found = getattr(importlib.import_module(module), name)
    if name in CONSTANTS:
        assert len(found) > 0
        return
    text = found.__doc__
    assert text and not text.startswith((f"{name}(", "dict(", "str("))  # as Python writes them
    assert callable(found)


def test_a_name_that_stands_in_two_modules_is_one_thing():
    import kdjax
    from kdjax import losses, teachers

    assert teachers.ensemble_logits is losses.ensemble_logits
    assert kdjax.Term is losses.Term
    assert kdjax.Teacher is teachers.Teacher and kdjax.logits is teachers.logits
