"""The pages: whole on their own, safe from any text, the same numbers as report.json."""

import base64
import dataclasses
import html
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from reports import ENVIRONMENT, a_missing, a_mistake, a_report, row, small, study

from kdjax import report, tables
from kdjax.report import page, table

VOID = {"meta", "img"}
TAGS = {"html", "head", "title", "style", "body", "main", "section", "h1", "h2", "p", "div"}
TAGS |= {"dl", "dt", "dd", "code", "table", "caption", "thead", "tbody", "tr", "th", "td"}
TAGS |= {"figure", "figcaption"} | VOID
EVIL = """</td><script>alert('1')</script><img src=x onerror="alert(2)">&lt;|`*_"""


class Page(HTMLParser):
    """A page read to the end: balanced tags, attributes, text, and the tables under each h2."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text, self.tables = [], [], "", {}
        self.headings = []
        self.feed(text)
        self.close()
        assert not self.open, f"{self.open} is not closed"

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "h2":
            self.headings.append("")
        if tag == "table":
            self.tables[self.headings[-1]] = []
        if tag == "tr":
            self.tables[self.headings[-1]].append([])
        if tag in ("th", "td"):
            self.tables[self.headings[-1]][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings[-1] += data
        if self.open and self.open[-1] in ("th", "td"):
            self.tables[self.headings[-1]][-1][-1] += data.replace("\xa0", " ")

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report with everything, as it was written."""
    folder = tmp_path_factory.mktemp("report")
    report.write(everything(), folder)
    return folder


def everything():
    missing = {"missing": (a_missing() | {"label": "students"},)}
    settings = {"students": {"optimizer.learning_rate": 0.01}}
    wrong = {"class_errors": {"students": [[1] * 10] * 4}, "mistakes": a_mistake()}
    return dataclasses.replace(study(), settings=settings, **missing, **wrong)


def read(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_one_well_formed_file_that_asks_for_no_other(written):
    found = read(written)
    assert {tag for tag, _ in found.found} <= TAGS
    assert found.all("html") == [{"lang": "en"}] and len(found.all("h1")) == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in found.all(
        "meta"
    )
    for _, attributes in found.found:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    text = (written / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|<link|<script", text)
    assert len(text) < 3e6


def test_every_figure_has_its_words_and_is_an_svg_of_its_own(written):
    found = read(written)
    names = sorted(path.stem for path in (written / "figures").iterdir())
    assert len(found.all("figure")) == len(found.all("figcaption")) == len(names) == 7
    for image in found.all("img"):
        assert len(image["alt"]) > 20
        kind, _, content = image["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(content).decode()
        root = ElementTree.fromstring(svg)
        links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
        assert all(link.startswith(("#", "data:image/png")) for link in links)
        assert not re.search(r"<script|<foreignObject| on\w+=", svg)


def test_tables_say_what_their_cells_belong_to(written):
    found = read(written)
    assert len(found.all("table")) == len(found.all("caption")) == 6
    assert {th["scope"] for th in found.all("th")} == {"col", "row"}
    spread = study().rows[0].metrics["nll"]
    mean, std = (f"{spread[name]:.3f}" for name in ("mean", "std"))
    assert f">{mean} ±\xa0{std}<" in (written / "report.html").read_text(encoding="utf-8")
    boxes = [box for box in found.all("div") if box["class"] == "scroll"]
    assert len(boxes) == len(found.all("table")) + len(found.all("figure"))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_both_pages_have_the_numbers_of_the_json(written):
    content = json.loads((written / "report.json").read_text())
    markdown = (written / "report.md").read_text(encoding="utf-8")
    header, *lines = read(written).tables["Results"]
    assert len(lines) == len(content["rows"])
    for line, expected in zip(lines, content["rows"], strict=True):
        cell = " ".join(f"{k}={v:g}" for k, v in expected["cell"].items())
        assert line[:2] == [f"{expected['stage']} {cell}".strip(), str(expected["members"])]
        for heading, metric, form, scale in table.METRICS:
            mean, std = (expected["metrics"][metric][k] for k in ("mean", "std"))
            if mean is not None and std is not None:
                text = f"{scale * mean:{form}} ± {scale * std:{form}}"
                assert line[header.index(heading)] == text
        assert re.search(r"\| +".join(re.escape(text) + " +" for text in line), markdown)


def test_both_pages_have_the_same_parts(written):
    markdown = (written / "report.md").read_text(encoding="utf-8")
    drawn = sorted(path.stem for path in (written / "figures").iterdir())
    found = read(written)
    assert re.findall(r"^## (.*)$", markdown, flags=re.MULTILINE) == found.headings
    assert found.headings[0] == "Finding" and found.headings[-1] == "Run"
    images = re.findall(r"!\[(.+)\]\(figures/(.*?)\.png\)", markdown)
    assert sorted(name for _, name in images) == drawn
    assert [html.unescape(alt) for alt, _ in images] == [image["alt"] for image in found.all("img")]
    text = " ".join(found.text.split())
    blocks = [html.unescape(block) for block in markdown.strip().split("\n\n")]
    prose = [block for block in blocks if block[0] not in "#|!-"]
    assert len(prose) > 10 and all(block in text for block in prose)


def test_the_same_report_is_the_same_bytes(written, tmp_path):
    report.write(everything(), tmp_path)
    for name in ("report.html", "report.md"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_no_text_becomes_markup(tmp_path):
    evil = a_report(
        row(EVIL, [3, 4], {EVIL: 1.0}),
        row(EVIL, [5, 4], {EVIL: 2.0}),
        row("$\\frac{x", [5, 4]),
        dataset=EVIL,
        settings={EVIL: {"teacher": EVIL, EVIL: EVIL}},
        mixtures={EVIL: EVIL, "other": "arithmetic"},
        missing=(a_missing() | {"label": EVIL},),
        class_names=(EVIL,) * 10,
        class_errors={EVIL: [[1] * 10]},
        mistakes=a_mistake() | {"class_names": (EVIL,) * 10, "label": EVIL},
        environment=ENVIRONMENT | {"command": f"python {EVIL}", "platform": EVIL},
    )
    found = Page(page.html(evil, {"errors_against_parameters": "<svg/>"}))
    assert {tag for tag, _ in found.found} <= TAGS and len(found.all("img")) == 1
    assert set(found.all("img")[0]) == {"alt", "src"} and EVIL in found.all("img")[0]["alt"]
    assert f"python {EVIL}" in found.text and f"{EVIL}, test split" in found.text
    assert found.tables["Results"][1][0] == f"{EVIL} {EVIL}=1"
    assert found.tables["Settings"][0] == ["field", EVIL]
    assert found.tables["Missing classes"][1][:2] == [EVIL, EVIL]
    text = page.markdown(evil, ["errors_against_parameters"])
    command = f"`` python {EVIL} ``"  # which has a backtick itself
    assert command in text
    outside = text.replace(command, "")
    assert "<" not in outside and "&lt;/td>&lt;script>" in outside
    lines = text.split("## Results")[1].split("\n## ")[0].splitlines()
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")}
    assert len(bars) == 1  # one in a cell ends no cell
    shown = dict(mistakes=a_mistake() | {"class_names": ("$\\frac{x",) * 10})
    report.write(a_report(row("$\\frac{x", [5, 4]), **shown), tmp_path)  # nor is a name mathematics


def test_a_small_report_reads_well_in_markdown():
    text = page.markdown(small(), ["sweep_temperature"])
    assert text.startswith("# digits, test split\n\n## Finding\n\ndistilled: 4.6 ± 2.2 fewer ")
    assert "\n\n## Run\n\n- command: `python -m kdjax.main " in text
    assert "\n- devices: 2 x cpu, 2 CPU cores\n" in text and text.endswith("together\n")
    assert tables.markdown(table.columns(small().rows, table.RESULTS)) in text
    assert "\n\n\n" not in text and not re.search(r" $", text, flags=re.MULTILINE)
