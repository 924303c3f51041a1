"""What a paper takes from a report: the table as Markdown and LaTeX, the methods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stridelab.report import statistics
from stridelab.report.answer import order_of, verdict
from stridelab.report.provenance import origin
from stridelab.report.sentences import (
    correction,
    difference_text,
    equivalent_text,
    num_comparisons,
    overview,
    score_text,
    seeds_text,
    verdict_text,
)
from stridelab.text import human, markdown_text, plural

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

NOTED = 20
"""Variants in a note: MLflow takes 8,000 characters."""
FILES = ("table.md", "table.tex", "methods.md")
_TEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\~{}", "^": r"\^{}"})


def write_paper(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """The table of variants as Markdown and LaTeX (booktabs), and a paragraph on methods."""
    header, rows = _table(comparison)
    texts = (_markdown(header, rows), _latex(header, rows), f"{methods(comparison)}\n")
    paths = tuple(folder / name for name in FILES)
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def note(comparison: Comparison) -> str:
    """The verdict and the best variants as Markdown, for the sweep's page in MLflow."""
    header, rows = _table(comparison)
    more = f"\n{len(rows) - NOTED} more are in the report.\n" if len(rows) > NOTED else ""
    return f"**{markdown_text(verdict(comparison))}**\n\n{_markdown(header, rows[:NOTED])}{more}"


def _table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    header = ["variant", "n", comparison.metric_heading, "difference", "verdict", "MACs"]
    rows = [
        [
            comparison.short(name),
            str(int(row["n"])),
            score_text(row, comparison),
            difference_text(row, comparison.measure),
            verdict_text(row),
            human(row.get("cost/macs", float("nan"))),
        ]
        for name in order_of(comparison)
        for row in [comparison.by_variant[name]]
    ]
    return header, rows


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(markdown_text(cell) for cell in line)} |\n" for line in lines)


def _latex(header: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return " & ".join(cell.translate(_TEX).replace("\u00b1", r"$\pm$") for cell in cells) + r" \\"

    body = "\n".join(map(line, rows))
    return (
        f"\\begin{{tabular}}{{lrrrlr}}\n\\toprule\n{line(header)}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )


def methods(comparison: Comparison) -> str:
    """A paragraph: data, recipe, seeds, tests, versions and the command."""
    return " ".join(_methods(comparison))


def _methods(comparison: Comparison) -> Iterator[str]:
    found = origin(comparison.sweep)
    count, seeds = len(comparison.names), seeds_text(comparison.seeds_trained)
    were, noun = "was" if count == 1 else "were", "seed" if seeds == "1" else "seeds"
    yield f"{plural(count, 'variant')} {were} trained with {seeds} {noun} each"
    yield f"({', '.join(f'{name} {value}' for name, value in found.recipe.items())})."
    if (comparison.runs["status"] != "finished").any():
        yield overview(comparison)
    yield comparison.controls.sentence
    if num_comparisons(comparison):
        yield from _tests(comparison)
    if found.versions:
        yield f"Software: {', '.join(f'{name} {version}' for name, version in found.versions.items())}."
    code = f"Code: Stridelab, commit {found.commit}. " if found.commit else ""
    yield f"{code}Machine: {found.machine}. Command: `{found.command}`."


def _tests(comparison: Comparison) -> Iterator[str]:
    is_sampled = comparison.variants["difference_seeds"].max() > statistics.EXACT_SEEDS
    patterns = f"a fixed sample of {statistics.SAMPLED:,} sign patterns" if is_sampled else "all sign patterns"
    yield (
        f"Variants were compared with {comparison.short(comparison.baseline)} by {comparison.metric_text}, paired by "
        f"seed: mean differences with Student's 95 % intervals, and two-sided sign-flip tests over {patterns} (p of "
        f"{plural(num_comparisons(comparison), 'comparison')}{correction(comparison)}, level 0.05)."
    )
    if comparison.margin:
        yield f"What is {equivalent_text(comparison)}, set beforehand, was tested by two one-sided t-tests."
