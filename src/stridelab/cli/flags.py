"""Hydra's flags: each does what a Hydra user expects, or is refused with the word to use instead."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

INSTEAD = {
    "--config-name": "the defaults are conf/train.yaml; put yours into DIR/experiment/NAME.yaml and say "
    "--config-dir DIR experiment=NAME",
    "--config-path": "say --config-dir DIR for configurations of your own",
    "--experimental-rerun": "the same command again continues a run; stridelab reproduce run=ID repeats one",
    "--hydra-help": "Hydra composes the configuration and runs nothing; --help lists what there is",
    "--shell-completion": "there is none; --help=all lists every key",
}
INSTEAD |= {
    "-cn": INSTEAD["--config-name"],
    "-cp": INSTEAD["--config-path"],
    "-sc": INSTEAD["--shell-completion"],
}
KNOWN = "-m, --config-dir DIR, --cfg job [--package PART] [--resolve], --info, --version, --help, --help=all"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; flags: {KNOWN}.")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Flags at any position, and the rest as `overrides`. ValueError in one sentence for a flag that is none."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag in INSTEAD:
            raise ValueError(f"{flag}: {INSTEAD[flag]}.")
    found, others = parser().parse_known_intermixed_args(
        ["--help-all" if argument == "--help=all" else argument for argument in arguments]
    )
    if others:
        raise ValueError(f"{others[0]} is not a flag; flags: {KNOWN}. Settings are key=value.")
    if found.cfg is None and (found.package or found.resolve):
        raise ValueError(f"{'--package' if found.package else '--resolve'} goes with --cfg job, which it changes.")
    return found


def parser() -> Parser:
    made = Parser(add_help=False, allow_abbrev=False)
    made.add_argument("overrides", nargs="*", default=[])
    made.add_argument("-m", "--multirun", action="store_true")
    made.add_argument("-r", "--run", action="store_true")
    made.add_argument("-cd", "--config-dir", type=folder)
    made.add_argument("-c", "--cfg", choices=["job"])
    made.add_argument("-p", "--package", default="")
    made.add_argument("--resolve", action="store_true")
    made.add_argument("-i", "--info", nargs="?", const="all")
    made.add_argument("-h", "--help", action="store_true")
    made.add_argument("--help-all", action="store_true")
    made.add_argument("--version", action="store_true")
    return made


def folder(text: str) -> Path:
    return Path(text).expanduser()
