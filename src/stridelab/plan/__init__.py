"""Know before you train: the exact geometry and cost of every variant, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .variant import Variant, examine, layer_plan_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Variant", "examine", "layer_plan_of", "print_plan"]


def print_plan(variants: Sequence[Variant], console: Console) -> None:
    """One line a variant, however many seeds it has, with the reason where one is impossible."""
    from .table import print_rows
    from .variant_row import distinct

    print_rows(distinct(variants), console, layers=False)
