"""Where runs are kept. Imports nothing heavy: configuration and `--help` read this."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

SCHEMES = ("sqlite", "http", "https", "postgresql+psycopg2", "postgresql+psycopg", "mysql+pymysql")
MAX_EXPERIMENT_LENGTH = 250


@dataclass(frozen=True)
class TrackingConfig:
    uri: str = ""
    """Address of the MLflow store, e.g. http://127.0.0.1:5000; empty: SQLite under paths.results_dir."""
    experiment: str = "stridelab"
    """The MLflow experiment that runs are kept in; made when it does not exist."""
    port: int = 5000
    """Of 127.0.0.1, where `stridelab ui` shows the store's pages."""

    def __post_init__(self) -> None:
        remember_password(self.uri)
        check_uri(self.uri)
        check_experiment(self.experiment)
        if not 1 <= self.port <= 65535:
            raise ValueError(f"tracking.port={self.port} must be from 1 to 65535.")


def check_uri(uri: str) -> None:
    scheme, separator, rest = uri.partition("://")
    if not uri or (separator and rest.strip("/") and scheme in SCHEMES and uri == uri.strip()):
        return
    hint = ""
    if scheme == "postgresql":
        hint = " (plain postgresql:// needs a driver: postgresql+psycopg2://)"
    elif not separator or scheme == "file":
        hint = " (MLflow no longer writes to folders)"
    # The value is not shown: it may hold a password.
    raise ValueError(
        f"tracking.uri is not the address of a store{hint}; leave it empty for SQLite under "
        f"paths.results_dir, or begin with one of {', '.join(f'{name}://' for name in SCHEMES)}."
    )


def check_experiment(name: str) -> None:
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > MAX_EXPERIMENT_LENGTH:
        raise ValueError(
            f"tracking.experiment={name!r} must be 1 to {MAX_EXPERIMENT_LENGTH} printable characters, "
            "without spaces around them."
        )


SECRET_KEY = (
    r"[\w.-]*(?:pass(?:word|wd|wort|phrase|code)|pwd|token|secret|(?:api|access|private)[_-]?key|credential)[\w.-]*"
)
_QUOTED = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"
_LIST = r"\[[^\]\n]*\]"
_BLOCK = r"[|>][+-]?[ \t]*(?:\n[+ -]?[ \t]+[^\n]+)+"
_PAIR = re.compile(rf"(?i)({SECRET_KEY})([\"']?[ \t]*[=:][ \t]*)({_QUOTED}|{_LIST}|{_BLOCK}|[^\s&,;\"']+)")
_FLAG = re.compile(rf"(?i)(--{SECRET_KEY})([ \t]+)({_QUOTED}|[^\s\"']+)")
_HEADER = re.compile(
    r"(?i)(\bauthorization[\"']?[ \t]*[=:][ \t]*[\"']?(?:bearer|basic|token)|\bbearer)([ \t]+)([\w.~+/=-]{6,})"
)
_PAIR_IN_CODE = re.compile(rf"(?i)({SECRET_KEY})([\"']?[ \t]*[=:][ \t]*)({_QUOTED})")
_IN_QUOTES = re.compile(r"""(["'])((?:(?!\1)[^\s\\])*://[^/\s:@"']*):(?:\\.|(?!\1)[^\\\n])*@""")
_USER_AND_PASSWORD = re.compile(r"(://[^/\s:@\"']*):[^\s\"']*@")
_USER = re.compile(r"://[^/\s:@\"']+@")
HIDDEN = "***"
SHORTEST_KNOWN = 4
"""Letters of a password that is looked for wherever it stands: a shorter one would be found in words."""
_given: set[str] = set()


def remember_password(uri: str) -> None:
    """Of an address that this process was given: `redact` finds it wherever it stands, be it cut in two by a space."""
    _given.update(_passwords((uri,)))


def redact(text: str, *, is_code: bool = False) -> str:
    """`text` without passwords: of addresses, of keys such as token, secret, pwd and their compounds, and those that
    this process was given, in any spelling. A name without a password may be a token. `is_code`: only literals are."""
    for password in sorted(_given | _passwords(tuple(sys.argv)), key=len, reverse=True):
        if len(password) >= SHORTEST_KNOWN:
            for spelled in (password, quote(password, safe=""), quote_plus(password), json.dumps(password)[1:-1]):
                text = text.replace(spelled, HIDDEN)
    text = _IN_QUOTES.sub(rf"\1\2:{HIDDEN}@", text)
    text = _USER_AND_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _USER.sub(f"://{HIDDEN}@", text)
    for known in (_HEADER, _PAIR_IN_CODE) if is_code else (_HEADER, _FLAG, _PAIR):
        text = known.sub(_hide, text)
    return text


def _hide(pair: re.Match[str]) -> str:
    key, separator, value = pair.groups()
    mark = value[0] if value[0] in "\"'" and value[0] == value[-1] else ""
    return f"{key}{separator}{mark}{HIDDEN}{mark}"


def redact_word(word: str) -> str:
    """A whole value or `key=value`: an address in it ends where the word does, whatever its password is made of."""
    before, separator, rest = word.partition("://")
    if separator and _password(rest) is not None:
        user, colon, _ = rest.partition(":")
        hidden = f"{user}:{HIDDEN}" if colon else HIDDEN
        return f"{redact(before)}://{hidden}@{redact(rest.rpartition('@')[2])}"
    if (pair := re.match(rf"(?i)({SECRET_KEY})=", word)) is not None:
        return f"{pair.group(1)}={HIDDEN}"
    return redact(word)


def redact_values(value: Any) -> Any:
    """Plain data, such as a configuration, with `redact_word` at every text in it."""
    if isinstance(value, Mapping):
        secret = re.compile(rf"(?i){SECRET_KEY}")
        return {key: _hidden(one) if secret.fullmatch(str(key)) else redact_values(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(one) for one in value]
    return redact_word(value) if isinstance(value, str) else value


def _hidden(value: Any) -> Any:
    """Every text in what a key of secrets holds; its numbers count something, as in max_tokens."""
    if isinstance(value, Mapping):
        return {key: _hidden(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(one) for one in value]
    return HIDDEN if isinstance(value, str) and value else value


def _password(rest: str) -> str | None:
    """Of the part of an address after `://`; empty when there is a name only, None when there is neither."""
    credentials, at, _ = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    return password if at and user and "/" not in user else None


@lru_cache(maxsize=256)
def _passwords(words: tuple[str, ...]) -> frozenset[str]:
    """In words of a command: of addresses, and of keys that hold secrets."""
    found = {_password(word.partition("://")[2]) for word in words if "://" in word}
    found |= {unquote(one) for one in found if one}
    pairs = (re.match(rf"(?i){SECRET_KEY}=(.*)", word, re.DOTALL) for word in words)
    return frozenset({one for one in found if one} | {pair.group(1) for pair in pairs if pair and pair.group(1)})
