"""Figures as files: bytes repeat, nothing of the user's is needed or read, notebooks show them."""

import io
import os
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image
from reports import small, study

from kdjax import drawing, report
from kdjax.report import figures


def render(content):
    with drawing.fixed_style():
        figure = figures.errors_against_parameters(content)
        return drawing.png(figure), drawing.svg(figure)


def test_the_bytes_repeat_whatever_the_users_style():
    first = render(study())
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "none"}):
        assert render(study()) == first
        figure = figures.errors_against_parameters(study())  # in a notebook the style is the user's
        assert figure.axes[0].get_facecolor()[:3] == (1, 0, 0)


def test_png_has_160_dots_per_inch():
    with Image.open(io.BytesIO(render(study())[0])) as image:
        image.load()
        assert image.size == (8 * 160, 704) and len(image.convert("RGB").getcolors(10**6)) > 10


def test_svg_stands_alone_and_follows_the_theme_of_its_page():
    text = render(study())[1]
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and float(root.get("viewBox").split()[2])
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))  # glyphs, so no font is needed
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    [style] = [s for s in root.iter("{http://www.w3.org/2000/svg}style") if "dark" in s.text]
    for colour in drawing.DARK:
        assert f'[style*="fill: {colour}"]' in style.text
    assert all(colour == colour.lower() for colour in drawing.DARK)  # as the SVG has them
    assert "stroke: #0072b2" in text and "fill: #333333" in text and "stroke: #e5e5e5" in text


def test_a_notebook_shows_a_figure():
    content, metadata = figures.soft_targets(**study().soft_targets)._repr_png_()
    assert content.startswith(b"\x89PNG") and metadata == {"width": round(96 * 5.8)}


def test_a_name_that_has_no_room_or_no_letters_is_cut_or_a_number():
    assert drawing.short("größe", "3") == "größe"
    assert drawing.short("a" * 24, "3") == "a" * 24 and drawing.short("a" * 25, "3")[22:] == "a…"
    assert drawing.short("雪", "3") == "3"


@pytest.mark.slow
def test_another_process_writes_the_same_without_display_or_pyplot(tmp_path):
    code = (
        "import sys; from reports import small; from kdjax import report;"
        "report.write(small(), sys.argv[1]); print('matplotlib.pyplot' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__), "MPLBACKEND": "TkAgg"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "theirs")],
        **{"env": environment, "capture_output": True, "text": True, "check": True},
    )
    assert run.stdout.strip() == "False"
    report.write(small(), tmp_path / "ours")
    theirs, ours = ((tmp_path / name / "report.html").read_bytes() for name in ("theirs", "ours"))
    assert theirs == ours
