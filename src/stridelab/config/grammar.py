"""Hydra's override grammar; plain arguments, which grids are made of, without its parser: 200 times faster."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, ValueType

from . import errors

KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[A-Za-z_]\w*(/[A-Za-z_]\w*)+", re.ASCII)
ATOM = re.compile(r"[^\[\],]+")
NUMBER = re.compile(r"0|[1-9]\d{0,14}", re.ASCII)
WORD = re.compile(r"(?!(?i:true|false|null|nan|inf)$)[A-Za-z_][\w-]*", re.ASCII)
PER_LAYER = re.compile(r"{n}(x{n})?(-{n}(x{n})?)*".format(n=f"(?:{NUMBER.pattern})"), re.ASCII)
"""1-2-2 and 1x2-2-2, which Hydra takes for text as well."""


def parse(overrides: Sequence[str]) -> list[Override]:
    """As `OverridesParser.parse_overrides`; ValueError in our words."""
    try:
        return [plain_override(line) or by_hydra(line) for line in overrides]
    except Exception as error:
        raise ValueError(errors.unreadable(overrides, error)) from None


def by_hydra(line: str) -> Override:
    (override,) = OverridesParser.create().parse_overrides([line])
    return override


def plain_override(line: str) -> Override | None:
    """`key=` and whole numbers, words and lists of them, parsed as Hydra does; None: it takes Hydra's parser."""
    key, _, text = line.partition("=")
    if not text or text != text.strip() or not KEY.fullmatch(key):
        return None
    try:
        values: list[Any] = json.loads(f"[{ATOM.sub(as_json, text)}]")
    except (ValueError, RecursionError):
        return None
    swept = len(values) > 1
    return Override(
        type=OverrideType.CHANGE,
        key_or_group=key,
        value_type=ValueType.SIMPLE_CHOICE_SWEEP if swept else ValueType.ELEMENT,
        _value=ChoiceSweep(simple_form=True, list=values) if swept else values[0],
        input_line=line,
    )


def as_json(match: re.Match[str]) -> str:
    atom = match.group().strip(" ")
    if NUMBER.fullmatch(atom) or not atom:
        return atom
    if WORD.fullmatch(atom) or PER_LAYER.fullmatch(atom):
        return f'"{atom}"'
    raise ValueError(atom)
