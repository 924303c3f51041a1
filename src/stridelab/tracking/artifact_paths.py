"""Paths of artifacts as they must be to be made in a folder on any system, whoever wrote them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from .journal import JOURNAL
from .run import IDENTITY

PART_RULE = re.compile(r"[\w.+~=,@() -]{1,200}")
"""One part of a path."""
MAX_DEPTH = 10
OWN_FILES = (JOURNAL, IDENTITY, "mirror.json", "output.txt")
"""Of a run's folder, and never an artifact's."""


def broken_rule(path: str) -> str:
    """Which rule an artifact's path breaks; empty when it stays inside any folder, on any system."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "." in parts or "" in parts:
        return "is not a path inside a run's artifacts (no '/' in front, no '.', '..' or empty part)"
    if path in OWN_FILES or parts[0] == "checkpoints":
        return "is a file that a run's folder keeps for itself"
    if not all(PART_RULE.fullmatch(part) for part in parts) or len(parts) > MAX_DEPTH:
        return (
            f"is not made of at most {MAX_DEPTH} parts of 1 to 200 letters, digits, spaces and the characters "
            "'_ . + ~ = , @ ( ) -'"
        )
    return ""


def clashing(paths: Mapping[str, object]) -> str:
    """A path that is another's folder, or that a file system may take for another; empty when there is none."""
    plain = {path: unicodedata.normalize("NFC", path).casefold() for path in paths}
    seen: set[str] = set()
    for path, one in plain.items():
        if one in seen:
            return path
        seen.add(one)
    for path, one in plain.items():
        parts = one.split("/")
        if any("/".join(parts[:depth]) in seen for depth in range(1, len(parts))):
            return path
    return ""
