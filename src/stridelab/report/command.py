"""The command that trains one variant of a sweep."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING

from stridelab import names
from stridelab.config.overrides import LAYERS
from stridelab.config.variants import AS_MADE, short
from stridelab.report.artifacts import read_json, read_settings

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

OF_SWEEPS = ("seed=", "sweep.", "search=", "search.")
"""Words that say how many are trained, and not how one is."""


def variant_words(comparison: Comparison, variant: str) -> list[str]:
    """As a shell takes them; none where the sweep's own command, or a part of the variant's name, is not known."""
    run = next((run for run in comparison.sweep.runs if run.variant == variant), None)
    settings = sorted(read_settings(run) if run else (), key=lambda key: key.startswith("model."))
    known = {short(key): key for key in settings} | {"data": "data"}  # of one name, the network's
    pairs = [pair.partition("=") for pair in variant.split(" ")]
    keys = [known.get(name) or (f"{LAYERS}{name}" if "." in name else "") for name, _, _ in pairs]
    if not all(keys) or not read_json(comparison.sweep.run, names.PROVENANCE_FILE):
        return []
    words = [word for word in command_of(comparison) if word.partition("=")[0] not in keys]
    own = [f"{key}={value}" for key, (_, _, value) in zip(keys, pairs, strict=True) if value != AS_MADE]
    return [*words, *(shlex.quote(word.replace("=None", "=null")) for word in own)]


def command_of(comparison: Comparison) -> list[str]:
    """The words of the sweep's command that are not swept."""
    facts = read_json(comparison.sweep.run, names.PROVENANCE_FILE)
    argv = [str(word) for word in facts.get("argv") or ["train.py"]]
    words = [word for word in argv[1:] if "=" in word and not word.startswith("-")]
    kept = [shlex.quote(word) for word in words if not is_swept(word) and not word.startswith(OF_SWEEPS)]
    return [*program(argv[0]), *kept]


def program(started: str) -> list[str]:
    """A file of the user's, whose networks no other program knows, or else `stridelab train`."""
    name = PurePath(started).name
    own = name.endswith(".py") and name not in ("train.py", "__main__.py")
    return ["python", name] if own else ["stridelab", "train"]


def is_swept(word: str) -> bool:
    """Whether a word such as `model.strides=1-1,[2,2]` has a comma outside brackets."""
    depth = 0
    for character in word:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            return True
    return False
