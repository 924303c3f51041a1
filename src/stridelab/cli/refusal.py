"""How every command says no: one readable error, exit code 1, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what a person got wrong into one message; STRIDELAB_TRACEBACK=1 shows where it came from."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if os.environ.get("STRIDELAB_TRACEBACK") == "1":
            raise
        sys.exit(refusal(error))
    except KeyboardInterrupt:
        if os.environ.get("STRIDELAB_TRACEBACK") == "1":
            raise
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


def refusal(error: BaseException) -> int:
    from rich.console import Console
    from rich.text import Text

    from stridelab.text import printable
    from stridelab.tracking.settings import redact

    from .program import for_reader

    said = "\n".join(printable(line) for line in for_reader(redact(str(error))).split("\n"))
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), said))
    return 1
