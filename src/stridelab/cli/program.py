"""How the reader of a message runs our commands: with `stridelab`, or with the scripts of a checkout."""

from __future__ import annotations

import re
import sys
from pathlib import Path

SCRIPTS = {"train": "train.py", "data": "scripts/get_data.py"}
"""Verbs whose script is not scripts/<verb>.py."""


def command(verb: str) -> str:
    if Path(sys.argv[0]).suffix != ".py":
        return f"stridelab {verb}"
    return f"python {SCRIPTS.get(verb, f'scripts/{verb}.py')}"


def for_reader(text: str) -> str:
    """`text` with every `stridelab VERB` as this reader types it."""
    from .main import VERBS

    return re.sub(rf"\bstridelab ({'|'.join(VERBS)})\b", lambda match: command(match[1]), text)
