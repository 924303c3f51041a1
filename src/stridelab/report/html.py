"""A notebook as one HTML file that loads nothing, and runs one script of ours."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

SCRIPT = "".join(
    files("stridelab.report").joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "maps.js")
)
"""Ours, and the only one that may run: sorts, filters, draws the chart, shows feature maps."""
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}'"
)
"""What the browser may do with the page: show it, and run that script. Were a name ever to slip through unescaped, it
could not act."""

CSS = files("stridelab.report").joinpath("page.css").read_text(encoding="utf-8")

TEMPLATE = """\
{%- extends 'classic/base.html.j2' -%}
{%- block header -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ resources.policy }}">
<title>{{ resources.title | escape_html }}</title>
<style>{{ resources.css }}</style>
</head>
<body>
<main>
{%- endblock header -%}
{%- block footer -%}
<details class="code"><summary>The notebook's code</summary>
{%- for cell in nb.cells if cell.cell_type == "code" %}{{ cell.source | highlight_code }}{% endfor -%}
</details>
</main>
<script>{{ resources.script }}</script>
</body>
</html>
{%- endblock footer -%}
{%- block input_group -%}{%- endblock input_group -%}
{%- block data_svg scoped -%}
{%- set known = output.metadata["image/svg+xml"] -%}
<figure tabindex="0"{% if known.figure == "feature_maps_last" and resources.maps %}
data-maps="{{ resources.maps | escape_html }}"{% endif %}>
<img data-figure="{{ known.figure | escape_html }}" alt="{{ known.alt | escape_html }}"
src="data:image/svg+xml;base64,{{ output.data["image/svg+xml"] | base64 }}"></figure>
{%- endblock data_svg -%}
"""


def as_html(notebook: NotebookNode, *, title: str, maps: Mapping[str, Any] | None = None) -> str:
    """`maps`: see maps.map_data."""
    make_exporter: Any = HTMLExporter  # its methods have no types
    exporter = make_exporter(
        template_file="stridelab.html.j2",
        extra_loaders=[DictLoader({"stridelab.html.j2": TEMPLATE})],
        mathjax_url="",
        require_js_url="",
        jquery_url="",
        mermaid_js_url="",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    exporter.register_filter("base64", lambda text: b64encode(text.encode()).decode())
    resources = {
        "script": SCRIPT,
        "title": title,
        "css": CSS + _code_colours(),
        "policy": POLICY,
        "maps": json.dumps(maps, separators=(",", ":")) if maps else "",
    }
    html, _ = exporter.from_notebook_node(notebook, resources)
    return str(html)


@cache
def _code_colours() -> str:
    formatter: Any = HtmlFormatter(style="friendly")
    return str(formatter.get_style_defs(".highlight"))
