"""A notebook as one HTML file that loads nothing and runs nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import DictLoader
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the browser may do with the page: show it. Were a name ever to slip through unescaped, it could not act."""

CSS = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 1180px; background: #fff; color: #222;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0.5rem 0 0.75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 0.5rem; padding-top: 0.5rem; border-top: 1px solid #e4e4e4; }
p { max-width: 52rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
p.summary, ul.summary { font-size: 1.05rem; }
p.note, .note { color: #6b6b6b; font-size: 0.85rem; }
dl.origin { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1rem; margin: 1rem 0;
  font-size: 0.9rem; }
dl.origin dt { color: #6b6b6b; }
dl.origin dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: 0.85rem/1.45 ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; }
pre { overflow-x: auto; }
img { max-width: 100%; height: auto; display: block; margin: 0.75rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.82rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.6rem 0.3rem 0; vertical-align: top; }
th { font-weight: 600; border-bottom: 1.5px solid #222; vertical-align: bottom; }
td { border-bottom: 1px solid #e4e4e4; }
td.p { overflow-wrap: anywhere; }
ul.summary { max-width: 52rem; padding-left: 1.2rem; }
.code_cell { display: flex; flex-direction: column-reverse; }
details { margin: 0.25rem 0; }
summary { color: #6b6b6b; font-size: 0.8rem; cursor: pointer; }
details pre { background: #f6f6f6; padding: 0.6rem 0.8rem; margin: 0.3rem 0; }
.error pre { background: #fdf0ed; padding: 0.6rem 0.8rem; }
@media print { details { display: none; } }
"""

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
{%- endblock header -%}
{%- block footer -%}
</body>
</html>
{%- endblock footer -%}
{%- block input_group -%}
<details><summary>code</summary>{{ cell.source | highlight_code(metadata=cell.metadata) }}</details>
{%- endblock input_group -%}
"""


def as_html(notebook: NotebookNode, *, title: str) -> str:
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
    resources = {"title": title, "css": CSS + _code_colours(), "policy": POLICY}
    html, _ = exporter.from_notebook_node(notebook, resources)
    return str(html)


@cache
def _code_colours() -> str:
    formatter: Any = HtmlFormatter(style="friendly")
    return str(formatter.get_style_defs(".highlight"))
