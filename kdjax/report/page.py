"""A document as Markdown, and as one web page that needs no network, script or other file."""

import base64
import re
from collections.abc import Mapping
from html import escape

from kdjax.report import table
from kdjax.report.document import Document, Facts, Part, Picture, Table

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #59636e; --line: #d8dee4;
  --page: #ffffff; --stripe: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1rem 4rem; color: var(--ink);
  background: var(--page); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1.5rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.75rem 0 .75rem; }
p, figcaption { max-width: 44rem; }
figcaption { color: var(--muted); font-size: .875rem; line-height: 1.5; margin-top: .5rem; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; line-height: 1.25rem;
  font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: .375rem .5rem; text-align: right; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
th[scope=row] { font-weight: 400; position: sticky; left: 0; background: var(--page); }
th:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--muted); border-bottom: 2px solid var(--line); }
tbody tr:hover > * { background: var(--stripe); }
dl { display: grid; grid-template-columns: fit-content(12rem) 1fr; gap: .25rem 1.25rem; margin: 0; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: .875em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
figure { margin: 1rem 0 0; }
img { display: block; max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --muted: #a0a8b0; --line: #363c44; --page: #14171a; --stripe: #1d2126; }
}
@media (max-width: 40rem) {
  body { padding-top: 1.25rem; }
  dl { display: block; }
  dd { margin-bottom: .5rem; }
  th[scope=row] { min-width: 6.5rem; max-width: 50vw; }
  img { max-width: none; width: 36rem; }
}
@media print {
  :root { --ink: #000; --muted: #333; --line: #999; --page: #fff; --stripe: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; line-height: 1.4; }
  th, td { padding: .2rem .35rem; }
  th[scope=row] { position: static; background: none; }
  img { max-width: min(100%, 15cm); max-height: 22cm; width: auto; }
}
"""


def markdown(document: Document) -> str:
    """The text, with figures as files of a folder beside it."""
    blocks = [f"# {_plain(document.title)}"]
    for section in document.sections:
        blocks += [f"## {section.title}", *map(_markdown, section.parts)]
    return "\n\n".join(blocks) + "\n"


def _markdown(part: Part) -> str:
    if isinstance(part, Facts):
        value = lambda name, text: _code(text) if name in part.code else _plain(text)
        return "\n".join(
            f"- {_plain(name)}: {value(name, text)}" for name, text in part.pairs.items()
        )
    if isinstance(part, Table):
        columns = [list(map(_plain, (name, *cells))) for name, cells in part.columns]
        return table.markdown([(name, cells) for name, *cells in columns])
    if isinstance(part, Picture):
        alt = re.sub(r"([\\\[\]])", r"\\\1", _plain(part.alt))
        return f"![{alt}](figures/{part.name}.png)\n\n{_plain(part.caption)}"
    return _plain(part)


def _plain(text: str) -> str:
    """Text in which Markdown finds no HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _code(text: str) -> str:
    """Text verbatim, within more backticks than it has anywhere."""
    inside = max(map(len, re.findall("`+", text)), default=0)
    space = " " * (inside > 0)
    return "`" * (inside + 1) + space + text + space + "`" * (inside + 1)


def html(document: Document, pictures: Mapping[str, str]) -> str:
    """The page; `pictures` are its figures by name, as SVG."""
    title = escape(document.title)
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{title}</h1>",
    ]
    for section in document.sections:
        lines += ["<section>", f"<h2>{escape(section.title)}</h2>"]
        lines += [_html(part, pictures) for part in section.parts] + ["</section>"]
    return "\n".join([*lines, "</main>", "</body>", "</html>\n"])


def _html(part: Part, pictures: Mapping[str, str]) -> str:
    if isinstance(part, Facts):
        value = lambda name, text: f"<code>{text}</code>" if name in part.code else text
        pairs = [
            f"<dt>{escape(name)}</dt><dd>{value(name, escape(text))}</dd>"
            for name, text in part.pairs.items()
        ]
        return "\n".join(["<dl>", *pairs, "</dl>"])
    if isinstance(part, Table):
        return _box(part.says, _table(part))
    if isinstance(part, Picture):
        source = base64.b64encode(pictures[part.name].encode()).decode()
        image = f'<img alt="{escape(part.alt)}" src="data:image/svg+xml;base64,{source}">'
        caption = f"<figcaption>{escape(part.caption)}</figcaption>"
        return f"<figure>\n{_box(part.name.replace('_', ' '), image)}\n{caption}\n</figure>"
    return f"<p>{escape(part)}</p>"


def _table(part: Table) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name, _ in part.columns)
    lines = ["<table>", f"<caption>{escape(part.says)}</caption>"]
    lines += [f"<thead><tr>{names}</tr></thead>", "<tbody>"]
    for first, *cells in zip(*(cells for _, cells in part.columns), strict=True):
        values = "".join(f"<td>{_cell(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{values}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])


def _cell(text: str) -> str:
    """Text that breaks, where a table is too wide, before a ± or a bracket or after a comma."""
    return re.sub(r"(?<!,) (?![±(])", "\xa0", escape(text))


def _box(says: str, content: str) -> str:
    """What is wider than the page scrolls in its own box, by keyboard too."""
    label = f'tabindex="0" role="region" aria-label="{escape(says)}"'
    return f'<div class="scroll" {label}>\n{content}\n</div>'
