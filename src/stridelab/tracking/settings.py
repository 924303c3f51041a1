"""Where runs are kept. Imports nothing heavy: configuration and `--help` read this."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


def redact(text: str) -> str:
    """`text` without the passwords of the addresses in it; a name without a password may be a token."""
    text = re.sub(r"(://[^/\s:@\"']*):[^/\s\"']*@", r"\1:***@", text)
    text = re.sub(r"://[^/\s:@\"']+@", "://***@", text)
    return re.sub(r"(?i)\b(password|passwd|token|secret|api_?key)=[^&\s'\"]+", r"\1=***", text)
