"""Runs as rows of named values, and conditions on them: `where='test/acc>0.8, seed=0'`."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stridelab import names
from stridelab.text import number_or_word

if TYPE_CHECKING:
    from .mlflow_reader import RunRecord

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "~": lambda value, part: str(part) in str(value),
}
CONDITION = re.compile(r"\s*([\w/.\- ]+?)\s*(<=|>=|!=|=|<|>|~)\s*(.+?)\s*")


@dataclass(frozen=True)
class Listed:
    """A run as one row of named values."""

    record: RunRecord

    @cached_property
    def values(self) -> dict[str, Any]:
        run = self.record
        seconds = None if run.end_ms is None else (run.end_ms - run.start_ms) / 1000
        facts = {
            "id": run.run_id,
            "name": run.name,
            "status": run.status.lower(),
            "variant": run.tags.get(names.VARIANT, ""),
            "seed": number_or_word(run.tags.get(names.SEED, "")),
            "sweep": run.tags.get(names.SWEEP, ""),
            "started": started(run),
            "seconds": seconds,
            "reason": run.reason,
        }
        return {**{key: number_or_word(word) for key, word in run.params.items()}, **run.metrics, **facts}


def started(run: RunRecord) -> str:
    return f"{datetime.fromtimestamp(run.start_ms / 1000):%Y-%m-%d %H:%M}"


def kept(rows: Iterable[Listed], where: str, known: Iterable[str]) -> Iterator[Listed]:
    """Those that meet every condition, such as `test/acc>0.8, seed=0`; `~` is: contains."""
    conditions = [condition(word, known) for word in where.split(",") if word.strip()]
    for row in rows:
        if all(row.values.get(key) is not None and holds(row.values[key], wanted) for key, holds, wanted in conditions):
            yield row


def condition(word: str, known: Iterable[str]) -> tuple[str, Callable[[Any, Any], bool], Any]:
    found = CONDITION.fullmatch(word)
    if not found:
        signs = ", ".join(COMPARISONS)
        raise ValueError(f"where={word.strip()} is not a condition; write key, one of {signs}, and a value: seed=0.")
    key, sign, wanted = found.groups()
    require_known(key, known, of="where")
    compare = COMPARISONS[sign]

    def holds(value: Any, wanted: Any) -> bool:
        both = isinstance(value, int | float) and isinstance(wanted, int | float)
        return compare(value, wanted) if both else compare(str(value), str(wanted))

    return key, holds, number_or_word(wanted)


def require_known(key: str, known: Iterable[str], *, of: str) -> None:
    known = list(known)
    if key not in known:
        close = difflib.get_close_matches(key, known, n=3, cutoff=0.5) or known[:12]
        raise ValueError(f"{of}={key}: no run has it; near it: {', '.join(close)}.")
