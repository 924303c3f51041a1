"""`stridelab train --help`: what most people need; `--help=all`: every key, default and meaning, from the schema."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stridelab.config import CONF, Config
from stridelab.config.axes import choices_of
from stridelab.models.families import FAMILIES
from stridelab.models.settings import ModelConfig
from stridelab.models.user_family import USER_SETTINGS

from .program import for_reader

Line = tuple[str, str, str]
"""Key, default, meaning."""

HEAD = """\
[bold]Stridelab[/]: what do stride and padding do to a CNN, what do they cost, and how
sure are we?

  stridelab train                                            one run
  stridelab train -m model.strides=1-1-1,1-2-2 seed=0,1,2    a sweep of 6 runs
  stridelab train -m 'model.strides=\\[1,1,1],\\[1,2,2]'         the same, as lists
  stridelab train experiment=stride_ladder                   a ready question
  stridelab train debug=fdr                                  a quick look

A sweep ends with a table, a report under results/reports/ (a notebook and a
page), and the command that opens everything in MLflow. The same command again
trains only what is missing."""

FOOT = """\
A value holds for all layers, a list is one for each: 1-2-2, or \\[1,2,2].
A stride or a kernel is a number or \\[height, width]. Padding is valid (none),
same (TensorFlow's), same_lower, half (PyTorch's padding=1 for a 3x3), an
integer, \\[height, width] or \\[left, right, top, bottom].

  stridelab plan KEYS                    geometry and cost, without training
  stridelab train -m KEYS sweep.preview=true
                                         what is done and left, and how long
  stridelab train --cfg job KEYS         the configuration that would run
  stridelab train --config-dir DIR       your own DIR/experiment/NAME.yaml

Exit codes: 0 all done; 1 refused or failed, with the reason; 129, 130 or 143
interrupted (SIGHUP, Ctrl-C, SIGTERM)."""

EVERYDAY = {
    "What differs": "model.strides model.padding model.padding_mode model.kernel_sizes model.channels model.downsample "
    "seed",
    "Training": "trainer.max_epochs trainer.batch_size trainer.lr trainer.optimizer trainer.accelerator",
    "Data": "data.root data.train_size",
    "The sweep and its records": "sweep.plans sweep.name sweep.jobs sweep.margin sweep.preview force paths.results_dir "
    "tracking.uri",
}
"""Heading -> keys that most people need."""


def print_help(*, everything: bool = False) -> None:
    console, known = Console(), list(described(Config))
    console.print(for_reader(HEAD), highlight=False)
    console.print("\n[bold]Choices[/] (group=choice)\n")
    console.print(groups())
    for heading, lines in (by_section(known) if everything else everyday(known)).items():
        console.print(f"\n[bold]{heading}[/]\n")
        console.print(table_of(lines))
    if not everything:
        command = for_reader("stridelab train --help=all")
        console.print(f"\nAll {len({key for key, _, _ in known})} keys: [bold]{command}[/]", highlight=False)
    console.print()
    console.print(for_reader(FOOT), highlight=False)


def everyday(known: Sequence[Line]) -> dict[str, list[Line]]:
    first = {line[0]: line for line in reversed(known)}
    return {heading: [first[key] for key in keys.split()] for heading, keys in EVERYDAY.items()}


def by_section(known: Iterable[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in known:
        section, dot, _ = line[0].partition(".")
        found.setdefault(section if dot else "The run", []).append(line)
    return found


def groups() -> Table:
    table = Table.grid(padding=(0, 2))
    for group in sorted(path.name for path in CONF.iterdir() if path.is_dir()):
        table.add_row(f"  {group}", ", ".join(choices_of(group)))
    return table


def table_of(lines: Iterable[Line]) -> Table:
    table = Table.grid(padding=(0, 2))
    for key, default, meaning in lines:
        said = " ".join(meaning.replace("`", "").split())
        table.add_row(f"  {key}", Text.assemble(f"{said} ", (f"Default: {default}", "dim")))
    return table


def described(schema: type[Any], prefix: str = "") -> Iterator[Line]:
    """(key, default as typed, meaning) of every field, nested ones after the plain ones."""
    hints, notes = get_type_hints(schema), docstrings(schema)
    nested = [field for field in fields(schema) if is_dataclass(hints[field.name])]
    for field in fields(schema):
        if field not in nested:
            default = field.default_factory() if callable(field.default_factory) else field.default
            choices = f" One of {', '.join(field.metadata['choices'])}." if "choices" in field.metadata else ""
            yield prefix + field.name, as_typed(default), notes.get(field.name, "") + choices
    for field in nested:
        if hints[field.name] is ModelConfig:
            yield from described_families(f"{prefix}{field.name}.")
        else:
            yield from described(hints[field.name], f"{prefix}{field.name}.")


def described_families(prefix: str) -> Iterator[Line]:
    """The keys of the default family, then what the others have of their own."""
    common = {field.name for field in fields(ModelConfig)}
    for at, (name, family) in enumerate(FAMILIES.items()):
        for key, default, meaning in described(family.settings, prefix):
            if at == 0:
                yield key, default, meaning
            elif key.removeprefix(prefix) not in common:
                yield key, default, f"{meaning} Of {prefix}family={name}."


def as_typed(value: object) -> str:
    if isinstance(value, tuple | list):
        return "[" + ",".join(map(as_typed, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value) or "''"


def docstrings(schema: type[Any]) -> dict[str, str]:
    """The line of text under each field in the source, inherited ones included."""
    found: dict[str, str] = {}
    for ancestor in reversed(schema.__mro__[:-1]):
        if ancestor in USER_SETTINGS:  # made of a function's arguments, without source
            continue
        (definition,) = ast.parse(inspect.getsource(ancestor)).body
        assert isinstance(definition, ast.ClassDef)
        for field, note in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(note, ast.Expr) and isinstance(note.value, ast.Constant):
                assert isinstance(field.target, ast.Name)
                found[field.target.id] = str(note.value.value)
    return found
