"""Runs become a tidy table, statistics, figures, a notebook and a page (pandas and matplotlib on first use)."""

from importlib import import_module
from typing import Any

_FILES = {
    "comparison": ("Comparison", "compare", "load"),
    "figures": ("FIGURES", "NothingToDraw", "draw", "render"),
    "front_tables": ("show_front",),
    "notebook": ("ReportPaths", "write_report"),
    "display": (
        "show_answer",
        "show_columns",
        "show_controls",
        "show_disagreements",
        "show_figure",
        "show_summary",
        "show_unfinished",
        "show_variants",
    ),
    "speed_tables": ("show_speed",),
    "table": ("run_table", "variant_table"),
    "terminal": ("print_variants",),
}
__all__ = sorted(name for names in _FILES.values() for name in names)


def __getattr__(name: str) -> Any:
    for file, names in _FILES.items():
        if name in names:
            return getattr(import_module(f".{file}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
