"""`python scripts/runs.py ui|sync [key=value ...]`"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from stridelab.config import Config, load
from stridelab.tracking import Store

from .arguments import asks_for_help
from .refusal import refusing

USAGE = """\
Look after what has been run.

  python scripts/runs.py ui      open the store's pages in MLflow, on 127.0.0.1:5000
  python scripts/runs.py sync    send to the store what its absence has left in the run folders

paths.results_dir= and tracking.*= as in train.py."""


def main() -> None:
    arguments = sys.argv[1:]
    if asks_for_help(arguments) or not arguments:
        print(USAGE)
        return
    with refusing():
        verb, *overrides = arguments
        if verb not in VERBS:
            raise ValueError(f"{verb!r} is not one of {', '.join(VERBS)}; see python scripts/runs.py --help.")
        VERBS[verb](load(overrides))


def open_ui(config: Config) -> None:
    from stridelab import tracking

    command = tracking.ui_command(store_of(config))
    print(command, flush=True)
    words = shlex.split(command)
    settings = dict(word.split("=", 1) for word in words if "=" in word.split("/")[0] and not word.startswith("-"))
    program = words[len(settings) :]
    os.execvpe(program[0], program, os.environ | settings)


def sync(config: Config) -> None:
    from stridelab import tracking

    complete = tracking.sync(store_of(config), Path(config.paths.results_dir))
    print("everything is in the store" if complete else "the store did not take everything; try again later")
    if not complete:
        sys.exit(1)


def store_of(config: Config) -> Store:
    from stridelab import tracking

    return tracking.resolve_store(config.tracking, results_dir=Path(config.paths.results_dir))


VERBS: dict[str, Callable[[Config], None]] = {"ui": open_ui, "sync": sync}
