"""The plan as text: one line a variant, as soon as it is known; the layers when there is one variant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, TextIO

from stridelab.tables import Columns, hanging
from stridelab.text import human_bytes, printable
from stridelab.training.settings import EVAL_BATCH_SIZE

from .columns import LAYER_COLUMNS, LEFT, VARIANT_COLUMNS, field_words, layer_cells, memory_words, variant_cells
from .variant import notes_of
from .variant_row import Figures, VariantRow
from .warnings import WARNINGS

if TYPE_CHECKING:
    from rich.console import Console

SAMPLE = 200
"""Variants that the widths of the columns are made for."""
PAGE = 110
"""Columns for sentences where there is no terminal."""

Line = tuple[str, str]
"""Text and style."""


def write_rows(rows: Iterable[VariantRow], out: TextIO) -> None:
    """For people at a terminal, or as plain lines of any length."""
    if out.isatty():
        from rich.console import Console

        print_rows(rows, Console(file=out))
    else:
        out.writelines(text + "\n" for text, _ in lines_of(rows, width=None, layers=True))


def print_rows(rows: Iterable[VariantRow], console: Console, *, layers: bool = True) -> None:
    """`layers`: show a single variant's. Nothing is wrapped where there is no terminal."""
    from rich.text import Text

    width = console.width if console.is_terminal else None
    for text, style in lines_of(rows, width=width, layers=layers):
        console.print(Text(text, style), soft_wrap=True)


def lines_of(rows: Iterable[VariantRow], *, width: int | None, layers: bool) -> Iterator[Line]:
    stream = iter(rows)
    sample = list(islice(stream, SAMPLE))
    seen = Seen()
    everything = map(seen.note, chain(sample, stream))
    if layers and len(sample) == 1:
        yield from layer_lines(next(everything), width=width)
    else:
        yield from variant_lines(everything, sample=sample, width=width)
    yield "", ""
    yield from seen.legend(width=width)


class Seen:
    """What has been printed and needs to be explained, once, at the end."""

    def __init__(self) -> None:
        self.warnings: set[str] = set()
        self.notes: dict[str, None] = {}
        self.batch_sizes: set[int] = set()
        self.evaluation = 0
        """Bytes, of where it takes more than training."""
        self.evaluation_is_known = True

    def note(self, row: VariantRow) -> VariantRow:
        if row.figures:
            self.warnings.update(row.figures.warnings)
            self.notes |= dict.fromkeys(notes_of(row.figures.config))
            self.batch_sizes.add(row.figures.batch_size)
            memory = row.figures.memory
            if memory.evaluation.size > memory.peak_at_least:
                self.evaluation = max(self.evaluation, memory.evaluation.size)
                self.evaluation_is_known &= memory.evaluation_is_known
        return row

    def sentences(self) -> dict[str, str]:
        found = {name: rule.meaning for name, rule in WARNINGS.items() if name in self.warnings}
        if self.notes:
            found["changed"] += ": " + "; ".join(self.notes)
        if self.batch_sizes:
            batch = str(*self.batch_sizes) if len(self.batch_sizes) == 1 else "trainer.batch_size"
            found["training memory"] = (
                f"predicted at {batch} images a pass: the most that tensors hold at once during a training step; "
                "without the data set, the libraries and what single operations take to work in"
            )
        if self.evaluation:
            found["evaluation"] = (
                f"takes more, of at most {EVAL_BATCH_SIZE} images a pass: "
                f"{'up to' if self.evaluation_is_known else 'at least'} {human_bytes(self.evaluation)}"
            )
        return found

    def legend(self, *, width: int | None) -> Iterator[Line]:
        sentences = self.sentences()
        longest = max(map(len, sentences), default=0)
        for name, meaning in sentences.items():
            yield hanging(f"{name.ljust(longest)}  ", meaning, min(width or PAGE, PAGE)), "dim"


def variant_lines(rows: Iterable[VariantRow], *, sample: list[VariantRow], width: int | None) -> Iterator[Line]:
    keys = keys_of(sample)
    cells = [variant_cells(row.figures, labels_of(row, keys)) for row in sample if row.figures]
    cells += [labels_of(row, keys) + [""] * len(VARIANT_COLUMNS) for row in sample if not row.figures]
    columns = Columns.of([*keys, *VARIANT_COLUMNS], cells, width=width, left={*keys, *LEFT})
    yield columns.head(), "bold"
    for row in rows:
        labels = labels_of(row, keys)
        if row.figures:
            yield columns.line(variant_cells(row.figures, labels)), ""
        else:
            yield columns.note(labels, f"impossible: {reason(row, keys)}"), "red"


def keys_of(sample: Sequence[VariantRow]) -> list[str]:
    """What the columns before the figures are called."""
    model = next((row for row in sample if row.figures), sample[0])
    return [key for key, _ in model.labels]


def labels_of(row: VariantRow, keys: list[str]) -> list[str]:
    given = dict(row.labels)
    return [printable(given.get(key, "")) for key in keys]


def reason(row: VariantRow, keys: list[str]) -> str:
    """With the labels that no column shows."""
    elsewhere = [f"{key}={value}: " for key, value in row.labels if key not in keys]
    return printable("".join([*elsewhere, row.error or ""]))


def layer_lines(row: VariantRow, *, width: int | None) -> Iterator[Line]:
    yield printable(row.name), "bold"
    if row.figures is None:
        yield hanging("impossible: ", printable(row.error or ""), width), "red"
        return
    cells = layer_cells(row.figures)
    columns = Columns.of(list(LAYER_COLUMNS), cells, width=width, left=LEFT)
    yield columns.head(), "bold"
    for line in cells[:-1]:
        yield columns.line(line), ""
    yield columns.line(cells[-1]), "bold"
    yield "", ""
    yield from summary_lines(row.figures, width=width)


def summary_lines(figures: Figures, *, width: int | None) -> Iterator[Line]:
    """What a column has no room for."""
    yield from ((hanging("", sentence, width), "") for sentence in field_words(figures))
    yield from ((hanging("", sentence, width), "") for sentence in memory_words(figures))
