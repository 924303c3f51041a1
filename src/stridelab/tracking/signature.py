"""What makes two runs the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

SIGNATURE_LENGTH = 16
"""Hex digits, 64 bits: among a million runs, two share a signature with a chance of 3e-8."""
TRAINING_CODE = ("geometry", "models", "data", "training")
"""The rooms whose code can change a result."""
PACKAGE = Path(__file__).parent.parent


def signature(config: Mapping[str, Any], *, data_digest: str, code_digest: str) -> str:
    """16 hex digits of SHA-256 over what can change a run's result. The order of keys does not count, nor
    whether a sequence is a list or a tuple; 1 and 1.0 differ. ValueError names a key that is not plain data.

    >>> signature({"seed": 0}, data_digest="d", code_digest="c")
    'b69041af6e304755'
    """
    _check(config, at="config")
    parts = {"config": config, "data": data_digest, "code": code_digest}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:SIGNATURE_LENGTH]


def _check(value: object, *, at: str) -> None:
    match value:
        case None | bool() | int() | float() | str():
            return
        case Mapping():
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise ValueError(f"{at} has the key {key!r}; a signature is made of text keys only.")
                _check(inner, at=f"{at}.{key}")
        case list() | tuple():
            for number, inner in enumerate(value):
                _check(inner, at=f"{at}[{number}]")
        case _:
            raise ValueError(
                f"{at}={value!r} is a {type(value).__name__}; a signature is made of numbers, text, true, "
                "false, null, lists and mappings."
            )


def training_sources() -> list[Path]:
    return sorted(path for room in TRAINING_CODE for path in (PACKAGE / room).rglob("*.py"))


@cache
def code_digest() -> str:
    """SHA-256 over the sources that train. Taken once a process: what is loaded does not change any more."""
    return digest_files(PACKAGE, training_sources())


def digest_files(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents, whatever the order of paths and the line ends."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
