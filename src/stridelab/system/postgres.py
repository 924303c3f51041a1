"""A PostgreSQL of our own, in one folder: reached by a socket that only its owner may enter, or on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

DEBIAN = "/usr/lib/postgresql"
OWNER = "postgres"
"""Who runs it when we are root, which PostgreSQL refuses; Debian's package makes this user."""
START_S = 60.0
INSTALL = "install PostgreSQL (Debian: apt-get install postgresql), or give the address of one with dsn="


def program(name: str) -> str:
    """Path of `initdb`, `postgres`, ...; Debian keeps them off the PATH. ValueError where there is none."""
    versions = sorted(Path(DEBIAN).glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, versions)]))
    if found is None:
        raise ValueError(f"there is no {name} here: {INSTALL}.")
    return found


class Postgres:
    """The cluster in `folder`, made when it is first started. Only we know of its socket; `port`: on 127.0.0.1, too."""

    def __init__(self, folder: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self.folder, self.port = folder.absolute(), port
        self.settings = dict(settings or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {"cwd": "/"}
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            self._as |= {"user": OWNER, "group": OWNER, "extra_groups": []}
        self.socket = Path(mkdtemp(prefix="stridelab-pg-"))  # short: a socket's path may have 107 bytes

    def start(self) -> None:
        """ValueError says what PostgreSQL says."""
        self.socket.mkdir(mode=0o700, exist_ok=True)
        self._give(self.socket)
        if not (self.folder / "PG_VERSION").exists():
            self._create()
        told = {"listen_addresses": "127.0.0.1" if self.port else "", "unix_socket_directories": str(self.socket)}
        told |= self.settings | ({"port": str(self.port)} if self.port else {})
        words = [word for name, value in told.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            command = [program("postgres"), "-D", str(self.folder), *words]
            # A session of its own: Ctrl-C is for us, who end what writes to it first.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **self._as)
        until = time.monotonic() + START_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                said = (self.folder / "log").read_text(errors="replace").splitlines()[-1:]
                raise ValueError(f"PostgreSQL does not start in {self.folder}: {' '.join(said)}")
            time.sleep(0.05)

    def answers(self) -> bool:
        words = ["--quiet", "--host", str(self.socket), *(["--port", str(self.port)] if self.port else [])]
        return subprocess.run([program("pg_isready"), *words], check=False).returncode == 0

    def stop(self, number: int = signal.SIGINT) -> None:
        """By default a fast shutdown: transactions are rolled back, all else is on the disk."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait()
            self.process = None
        shutil.rmtree(self.socket, ignore_errors=True)

    def execute(self, *queries: str) -> str:
        """By the socket, as the owner of everything; what `psql` prints."""
        words = ["--host", str(self.socket), *(["--port", str(self.port)] if self.port else []), "-U", OWNER]
        words += ["-d", "postgres", "-v", "ON_ERROR_STOP=1", "-qtA"]
        made = [word for query in queries for word in ("-c", query)]
        done = subprocess.run([program("psql"), *words, *made], check=True, capture_output=True, text=True, cwd="/")
        return done.stdout.strip()

    def uri(self, database: str) -> str:
        """For SQLAlchemy, by the socket; the database is made where it is not there."""
        if not self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{database}'"):
            self.execute(f"CREATE DATABASE {database}")
        port = f"&port={self.port}" if self.port else ""
        return f"postgresql+psycopg2://{OWNER}@/{database}?host={self.socket}{port}"

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._give(self.folder)
        rules = ["--auth-local=trust", "--auth-host=scram-sha-256", "-U", OWNER, "--encoding=UTF8", "--locale=C"]
        command = [program("initdb"), "-D", str(self.folder), *rules]
        done = subprocess.run(command, check=False, capture_output=True, text=True, **self._as)
        if done.returncode:
            raise ValueError(f"PostgreSQL cannot be set up in {self.folder}: {' '.join(done.stderr.split())}")

    def _give(self, folder: Path) -> None:
        if "user" in self._as:
            shutil.chown(folder, OWNER, OWNER)
