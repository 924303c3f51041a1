"""`stridelab train --help`: every group, key, default and meaning, read from the schema itself."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stridelab.config import CONF, Config
from stridelab.config.compose import choices_of
from stridelab.models.families import FAMILIES
from stridelab.models.settings import ModelConfig
from stridelab.models.user_family import USER_SETTINGS

from .program import for_reader

HEAD = """\
[bold]Stridelab[/]: what do stride and padding do to a CNN, what do they cost, and how sure are we?

  One run        stridelab train
  A sweep        stridelab train -m 'model.strides=\\[1,1,1],\\[1,2,2]' 'model.padding=same,valid' seed=0,1,2
  No brackets    stridelab train -m model.strides=1-1-1,1-2-2
  An experiment  stridelab train experiment=stride_ladder
  A debug run    stridelab train debug=fdr

A sweep ends with a table, an executed notebook and its HTML under results/reports/, and the command that opens
everything in MLflow. The same command again trains only what is not finished."""

FOOT = """\
Per layer: one value for all layers, or a list of one a layer. A stride or kernel: 2, or \\[height, width].
Padding: valid, same (TensorFlow's), same_lower, half (PyTorch's padding=1 for a 3x3), an integer, \\[height, width]
or \\[left, right, top, bottom].

  stridelab plan ...                       geometry and cost of the same arguments, without training
  stridelab train -m sweep.preview=true .. what is done, to continue and to do, and how long it may take
  stridelab train --cfg job ...            the configuration that would run
  stridelab train --config-dir DIR ...     experiments and other choices of your own, as DIR/experiment/NAME.yaml

Exit codes: 0 all done; 1 refused or failed, with the reason; 129, 130 or 143 interrupted (SIGHUP, Ctrl-C, SIGTERM)."""


def print_help() -> None:
    console = Console()
    console.print(for_reader(HEAD), highlight=False)
    console.print("\n[bold]Groups[/] (group=choice)\n")
    console.print(groups())
    console.print("\n[bold]Keys[/] (key=value)\n")
    console.print(keys())
    console.print()
    console.print(for_reader(FOOT), highlight=False)


def groups() -> Table:
    table = Table.grid(padding=(0, 2))
    for group in sorted(path.name for path in CONF.iterdir() if path.is_dir()):
        table.add_row(f"  {group}", ", ".join(choices_of(group)))
    return table


def keys() -> Table:
    table = Table.grid(padding=(0, 2))
    for key, default, meaning in described(Config):
        table.add_row(f"  {key}", escape(default), escape(meaning.replace("`", "")))
    return table


def described(schema: type[Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
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


def described_families(prefix: str) -> Iterator[tuple[str, str, str]]:
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
