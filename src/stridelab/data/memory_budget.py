"""Bytes that threads share: who needs some waits until they are free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class MemoryBudget:
    def __init__(self, num_bytes: int) -> None:
        self._total = self._free = num_bytes
        self._changed = Condition()

    @contextmanager
    def held(self, num_bytes: int) -> Iterator[None]:
        """While `num_bytes` are in use; what is more than all waits until it is alone."""
        taken = min(num_bytes, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()
