"""A report as files: figures, Markdown, JSON, and one web page without network or scripts."""

import base64
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import tables
from kdjax.host import files
from kdjax.report import document, table
from kdjax.report.report import Report
from kdjax.report.rows import count_members
from kdjax.statistics import summarise

CURVE = 200  # most steps of a curve in report.json; a stage's metrics.jsonl has all


def write(report: Report, directory: str | os.PathLike) -> None:
    """Writes figures/*.png, report.md, report.html and, last, report.json; each appears whole or
    not at all."""
    from kdjax import drawing  # here, for Matplotlib takes half a second
    from kdjax.report import figures

    directory = Path(directory)
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    with drawing.fixed_style():
        drawn = figures.of_report(report)
        for name, figure in drawn.items():
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # it is laid out, once for both formats
            files.write(directory / "figures" / f"{name}.png", drawing.png(figure))
        pictures = {name: drawing.svg(figure) for name, figure in drawn.items()}
    files.write(directory / "report.md", markdown(report, drawn))
    files.write(directory / "report.html", html(report, pictures))
    files.write(directory / "report.json", files.to_json(content(report), indent=1))


def content(report: Report) -> dict[str, Any]:
    """What report.json has."""
    whole = ("environment", "environments", "config", "examples", "calibration", "class_errors")
    found: dict[str, Any] = {"rows": [vars(row) for row in report.rows]}
    found |= {name: getattr(report, name) for name in whole}
    found["curves"] = {row.label: _thinned(curve) for row, curve in report.curves_shown}
    if report.soft_targets:
        found["soft_targets"] = {k: v for k, v in report.soft_targets.items() if k != "images"}
    if report.missing:
        found["missing_classes"] = report.missing
    return found


def markdown(report: Report, figures: Collection[str]) -> str:
    """The text, with figures of these names as files of a folder beside it."""
    return re.sub(r"\n{3,}", "\n\n", _render("markdown.jinja", report, figures)).strip() + "\n"


def html(report: Report, pictures: Mapping[str, str]) -> str:
    """The page; `pictures` are its figures by name, as SVG."""
    sources = {name: base64.b64encode(svg.encode()).decode() for name, svg in pictures.items()}
    return re.sub(r"\n{2,}", "\n", _render("html.jinja", report, sources))


def _render(template: str, report: Report, figures: Collection[str]) -> str:
    import jinja2  # here, for only a report needs it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kdjax.report"),
        autoescape=template == "html.jinja",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=tables.number, spread=tables.spread, errors=table.errors)
    environment.filters.update(plain=_plain, code=_code, summarise=summarise, members=count_members)
    environment.filters["grid"] = lambda columns: tables.markdown(columns, _plain)
    # A cell that is too wide breaks before a ± or a bracket, or after a comma.
    environment.filters["cell"] = lambda text: re.sub(r"(?<!,) (?![±(])", "\xa0", text)
    return environment.get_template(template).render(document.contents(report, figures))


def _plain(text: str) -> str:
    """Text in which Markdown finds no HTML, on one line."""
    return re.sub(r"\s+", " ", text).strip().replace("&", "&amp;").replace("<", "&lt;")


def _code(text: str) -> str:
    """Text verbatim, within more backticks than it has anywhere."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " * (len(ticks) > 1)
    return f"{ticks}{space}{text}{space}{ticks}"


def _thinned(curve: dict[str, Any]) -> dict[str, list]:
    """At most CURVE steps of a curve [S], as far apart as can be, with the first and the last."""
    steps = len(curve["step"])
    shown = np.linspace(0, steps - 1, min(steps, CURVE)).round().astype(int)
    return {name: [values[i] for i in shown] for name, values in curve.items()}
