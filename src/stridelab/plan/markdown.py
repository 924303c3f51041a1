"""The plan for documents: GitHub's tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TextIO

from stridelab.text import markdown_text

from .columns import LAYER_COLUMNS, LEFT, VARIANT_COLUMNS, field_words, layer_cells, memory_words, variant_cells
from .table import Seen, keys_of, labels_of, reason
from .variant_row import VariantRow


def write(rows: Iterable[VariantRow], out: TextIO) -> None:
    """One line a variant; the layers when there is one variant."""
    stream = iter(rows)
    sample = list(islice(stream, 2))
    seen = Seen()
    everything = map(seen.note, chain(sample, stream))
    lines = layer_lines(next(everything)) if len(sample) == 1 else variant_lines(everything, keys_of(sample))
    out.writelines(line + "\n" for line in lines)
    out.write("\n")
    out.writelines(f"- **{name}**: {meaning}\n" for name, meaning in seen.sentences().items())


def variant_lines(rows: Iterable[VariantRow], keys: list[str]) -> Iterator[str]:
    headings = [*keys, *VARIANT_COLUMNS]
    yield from head(headings, left={*keys, *LEFT})
    for row in rows:
        labels = labels_of(row, keys)
        if row.figures:
            yield line(variant_cells(row.figures, labels))
        else:
            blank = [""] * (len(VARIANT_COLUMNS) - 1)
            yield line([*labels, *blank, f"impossible: {reason(row, keys)}"])


def layer_lines(row: VariantRow) -> Iterator[str]:
    yield f"**{markdown_text(row.name)}**\n"
    if row.figures is None:
        yield f"impossible: {markdown_text(row.error or '')}"
        return
    yield from head(list(LAYER_COLUMNS), left=LEFT)
    *layers, sums = layer_cells(row.figures)
    yield from map(line, layers)
    yield "| " + " | ".join(f"**{markdown_text(cell)}**" if cell else "" for cell in sums) + " |"
    yield from ("\n" + sentence for sentence in field_words(row.figures))
    yield from ("\n" + sentence for sentence in memory_words(row.figures))


def head(headings: Sequence[str], *, left: Iterable[str]) -> list[str]:
    rules = (":--" if heading in left else "--:" for heading in headings)
    return [line(headings), "| " + " | ".join(rules) + " |"]


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"
