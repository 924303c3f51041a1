"""Named points of a run. A test registers what happens there (tests/faults/injection.py); otherwise nothing does."""

from __future__ import annotations

from collections.abc import Callable

hooks: dict[str, Callable[[], None]] = {}
"""Name of a point -> what is called whenever this process comes by."""


def point(name: str) -> None:
    if hooks and name in hooks:
        hooks[name]()
