"""How the reader of a message runs our commands: with `stridelab`, or with the scripts of a checkout."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from stridelab.tracking.settings import redact_word

VERBS = {
    "train": "train one run, or a sweep with its comparison",
    "plan": "geometry, cost and memory of every variant, without training",
    "compare": "write the comparison of a sweep again",
    "runs": "look after what has been run: list, best, show, diff, delete, ui, sync, export, import",
    "reproduce": "run a stored run again and say whether the result is the same",
    "probe": "measure a trained network, and record that in its run",
    "benchmark": "measure the speed of a finished sweep's variants, in turns",
    "data": "find, download and decode a data set",
    "ui": "open the store's pages in MLflow",
    "server": "start a tracking server for a team: MLflow's, with PostgreSQL behind it",
}
"""Each is `main` of the module of this name in stridelab/cli."""
SCRIPTS = {"train": "train.py", "data": "scripts/get_data.py"}
"""Verbs whose script is not scripts/<verb>.py."""


own_file = ""
"""The file of the user's that calls `stridelab.main()`."""


def command(verb: str) -> str:
    if own_file:
        return f"python {own_file}" if verb == "train" else f"python {own_file} {verb}"
    if Path(sys.argv[0]).suffix != ".py":
        return f"stridelab {verb}"
    return f"python {SCRIPTS.get(verb, f'scripts/{verb}.py')}"


def here(started: str, overrides: Sequence[str]) -> str:
    """A command of ours with the results folder and the store that another was given."""
    return shlex.join([*shlex.split(started), *map(redact_word, overrides)])


def for_reader(text: str) -> str:
    """`text` with every `stridelab VERB` as this reader types it."""
    return re.sub(rf"\bstridelab ({'|'.join(VERBS)})\b", lambda match: command(match[1]), text)
