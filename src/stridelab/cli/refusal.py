"""How every command says no: one readable error, exit code 1, no traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

BROKEN_PIPE = 141
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what a person got wrong into one message; STRIDELAB_TRACEBACK=1 shows where it came from. `| head` closes
    the pipe before the last line: no complaint, and the exit code that shells expect."""
    open_closed_streams()
    try:
        yield
        sys.stdout.flush()
    except (ValueError, OSError, KeyboardInterrupt, SystemExit) as error:
        if os.environ.get("STRIDELAB_TRACEBACK") == "1":
            raise
        if (code := exit_code(error)) is None:
            raise
        sys.exit(code)


def exit_code(error: BaseException) -> int | None:
    """After its message, where it needs one; None: it is not a person's to mend."""
    match error:
        case KeyboardInterrupt():
            print("Interrupted.", file=sys.stderr)
            return 130
        case BrokenPipeError() | SystemExit(__context__=BrokenPipeError()):  # the latter is what rich makes of it
            empty_stdout()
            return BROKEN_PIPE
        case OSError(errno=number) if number in FULL:
            empty_stdout()
            return refusal(ValueError(f"{error.strerror}{f': {error.filename}' if error.filename else ''}."))
        case ValueError() | FileNotFoundError():
            return refusal(error)
    return None


def open_closed_streams() -> None:
    """A stream that is closed (`>&-`) would be the next file that is opened: children would print into that."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def empty_stdout() -> None:
    """What is left in it would fail once more as Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refusal(error: BaseException) -> int:
    from rich.console import Console
    from rich.text import Text

    from stridelab.text import printable
    from stridelab.tracking.settings import redact

    from .program import for_reader

    said = "\n".join(printable(line) for line in for_reader(redact(str(error))).split("\n"))
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), said))
    return 1
