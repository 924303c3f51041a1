"""Named points where the tests of tests/faults/ strike. Without STRIDELAB_FAULT in the environment nothing happens."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

VARIABLE = "STRIDELAB_FAULT"
"""`point:nth:action`: the nth time that this process comes by the point, the action is done."""
ONCE = "STRIDELAB_FAULT_ONCE"
"""A file that is made first: of all processes, one is struck, and that one once."""

passed: Counter[str] = Counter()


def point(name: str) -> None:
    if VARIABLE in os.environ:
        _strike(name)


def _strike(name: str) -> None:
    wanted, nth, action = os.environ[VARIABLE].split(":")
    if name != wanted:
        return
    passed[name] += 1
    if passed[name] != int(nth):
        return
    if once := os.environ.get(ONCE):
        try:
            Path(once).open("x").close()
        except FileExistsError:
            return
    ACTIONS[action]()


def _exhaust() -> None:
    import resource

    import torch

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
    torch.ones(2**28)


def _crash() -> None:
    import ctypes

    ctypes.string_at(0)


ACTIONS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(0),
    "hang": lambda: time.sleep(3600),
    "crash": _crash,
    "exhaust": _exhaust,
}
