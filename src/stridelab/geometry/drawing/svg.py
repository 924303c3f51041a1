"""SVG elements as text; whatever a person wrote goes through `text`, which escapes it."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

from stridelab.text import printable

INK, FAINT, PAPER = "#212529", "#6c757d", "#ffffff"

Box = tuple[float, float, float, float]
"""x, y, width, height."""


def text(
    content: str,
    *,
    x: float,
    y: float,
    size: float = 13,
    fill: str = INK,
    weight: int = 400,
    anchor: str = "start",
) -> str:
    """With a halo of paper, so that lines may pass behind it."""
    return (
        f'<text x="{x:.4g}" y="{y:.5g}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}" stroke="{PAPER}" stroke-width="3" paint-order="stroke">'
        f"{escape(printable(content))}</text>"
    )


def rect(box: Box, *, fill: str = "none", stroke: str = "none", opacity: float = 1) -> str:
    return f'<rect {place(box)} fill="{fill}" stroke="{stroke}" stroke-width="1" opacity="{opacity}"/>'


def place(box: Box) -> str:
    x, y, width, height = box
    return f'x="{x:.5g}" y="{y:.5g}" width="{width:.5g}" height="{height:.5g}"'


def path(commands: str, *, stroke: str, width: float = 1, opacity: float = 1, extra: str = "") -> str:
    return f'<path d="{commands}" fill="none" stroke="{stroke}" stroke-width="{width}" opacity="{opacity}" {extra}/>'


def document(parts: Iterable[str], *, width: float, height: float, title: str) -> str:
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img" font-family="Helvetica, Arial, sans-serif">',
            f"<title>{escape(printable(title))}</title>",
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
            *parts,
            "</svg>\n",
        )
    )
