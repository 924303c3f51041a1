"""How every command says no: one readable error, exit code 1, no traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

BROKEN_PIPE = 141
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what a person got wrong into one message; STRIDELAB_TRACEBACK=1 shows where it came from. `| head` closes
    the pipe before the last line: no complaint, and the exit code that shells expect."""
    make_writable()
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
        case FileNotFoundError(errno=None) | ValueError():
            return refusal(error)
        case OSError(filename=str(path)):
            return refusal(ValueError(f"{path}: {error.strerror}."))
        case OSError(errno=number) if number in FULL:
            empty_stdout()
            return refusal(ValueError(f"{error.strerror}."))
    return None


def make_writable() -> None:
    """A stream that is closed (`>&-`) would be the next file that is opened, which children would print into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal or a file that knows no UTF-8 costs a sign, not a report


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
