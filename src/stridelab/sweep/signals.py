"""Ctrl-C and its kin: one exception, so that children and records are looked after."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from stridelab.system.processes import STOPS
from stridelab.tracking.provenance import command_line


class Stopped(KeyboardInterrupt):
    """One of the system's `STOPS`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in STOPS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup: it shall go on
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(interruption: KeyboardInterrupt) -> int:
    return 128 + (interruption.number if isinstance(interruption, Stopped) else signal.SIGINT)


def command() -> str:
    """What was typed, as it can be typed again."""
    words = command_line()
    program = [] if Path(words[0]).suffix != ".py" else [Path(sys.executable).name]
    return shlex.join([*program, *words])
