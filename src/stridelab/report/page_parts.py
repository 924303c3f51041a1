"""What a cell of the notebook may show: HTML and the same as text, a picture, a table."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from stridelab.tables import as_text, table
from stridelab.text import printable

STYLES = {
    ("th", "t"): "text-align:left",
    ("th", "n"): "text-align:right",
    ("th", "p"): "text-align:left",
    ("td", "t"): "text-align:left;white-space:nowrap",
    ("td", "n"): "text-align:right;white-space:nowrap",
    ("td", "p"): "text-align:left",
}
"""Of a table's cells, by tag and kind; inline, because a notebook brings its own style sheet."""


@dataclass(frozen=True)
class Page:
    """HTML for a notebook, and the same as text."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Picture:
    """An SVG, and where there is one a PNG of two pixels for one, for notebooks on hosting sites."""

    files: Mapping[str, bytes] = field(repr=False)
    """By format."""
    name: str
    alt: str

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"image/svg+xml": self.files["svg"].decode(), "text/plain": self.alt}
        said: dict[str, Any] = {"image/svg+xml": {"alt": self.alt, "figure": self.name}}
        if png := self.files.get("png"):
            data["image/png"] = b64encode(png).decode()
            said["image/png"] = {"width": _width(png) // 2, "alt": self.alt}
        return data, said


def table_page(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, notes: Sequence[str] = (), kinds: str, caption: str
) -> Page:
    """`kinds`, a letter a column: t for a word or name, n for a number, p for prose, which alone wraps. The first
    column names the row."""

    def line(cells: Sequence[str], tag: str) -> str:
        marked = []
        for place, (kind, cell) in enumerate(zip(kinds, cells, strict=True)):
            name, scope = ("th", " scope='col'") if tag == "th" else (tag, "") if place else ("th", " scope='row'")
            marked.append(f"<{name}{scope} class='{kind}' style='{STYLES[tag, kind]}'>{safe(cell)}</{name}>")
        return f"<tr>{''.join(marked)}</tr>"

    head, body = line(header, "th"), "".join(line(row, "td") for row in rows)
    said = "".join(f"<p class='note'>{safe(note)}</p>" for note in notes if note)
    box = f"<div class='table' role='region' tabindex='0' aria-label='{safe(caption)}'>"
    inside = f"<caption>{safe(caption)}</caption><thead>{head}</thead><tbody>{body}</tbody>"
    html = f"{box}<table>{inside}</table></div>{said}"
    words = [heading for heading, kind in zip(header, kinds, strict=True) if kind != "n"]
    return Page(html, as_text(table(header, rows, words=words)))


def safe(text: str) -> str:
    """No markup, no control characters."""
    return escape(printable(text))


def _width(png: bytes) -> int:
    return int.from_bytes(png[16:20], "big")  # the PNG's first chunk
