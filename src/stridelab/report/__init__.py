"""Runs become a tidy table, statistics, figures, a notebook and a page (pandas and matplotlib on first use)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comparison import Comparison, compare, load
    from .display import (
        show_columns,
        show_controls,
        show_figure,
        show_summary,
        show_unfinished,
        show_variants,
    )
    from .figures import FIGURES, NothingToDraw, draw, render
    from .notebook import ReportPaths, write_report
    from .speed_tables import show_speed, show_training_speed
    from .table import COLUMNS, run_table, variant_table
    from .terminal import print_variants

__all__ = [
    "COLUMNS",
    "FIGURES",
    "Comparison",
    "NothingToDraw",
    "ReportPaths",
    "compare",
    "draw",
    "load",
    "print_variants",
    "render",
    "run_table",
    "show_columns",
    "show_controls",
    "show_figure",
    "show_speed",
    "show_summary",
    "show_training_speed",
    "show_unfinished",
    "show_variants",
    "variant_table",
    "write_report",
]

_HOME = {
    "comparison": ("Comparison", "compare", "load"),
    "figures": ("FIGURES", "NothingToDraw", "draw", "render"),
    "notebook": ("ReportPaths", "write_report"),
    "display": ("show_columns", "show_controls", "show_figure", "show_summary", "show_unfinished", "show_variants"),
    "speed_tables": ("show_speed", "show_training_speed"),
    "table": ("COLUMNS", "run_table", "variant_table"),
    "terminal": ("print_variants",),
}
_FILE = {name: file for file, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _FILE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_FILE[name]}", __name__), name)
