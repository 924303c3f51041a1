"""`stridelab server [key=value ...]`"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from stridelab.config import load
from stridelab.sweep.signals import signals_as_exceptions
from stridelab.system.postgres import Postgres
from stridelab.tracking import server
from stridelab.tracking.settings import TrackingConfig, redact, remember_password

from .arguments import run_verb, split
from .program import command
from .runs import refuse_busy

USAGE = """\
Start a tracking server for a team on 127.0.0.1, and end it on Ctrl-C: MLflow's, with PostgreSQL behind it, and the
artifacts in its own folder, to which it is the only door. What a team needs around it: docs/team.md.

  stridelab server               PostgreSQL of Debian's package, in folder=
  dsn=postgresql+psycopg2://USER@HOST/DATABASE
                                 your own database instead; a password belongs into ~/.pgpass
  folder=results/server          database, artifacts, log
  hosts=lab.example.org          further names under which it is reached, behind a proxy with TLS
  auth=basic                     ask for names and passwords; that of admin comes from the environment,
                                 MLFLOW_AUTH_ADMIN_PASSWORD, or from password_file=, a file of mode 600
  tracking.port=5000"""
OWN = {"dsn": "", "folder": "", "hosts": "", "auth": "none", "password_file": ""}


def main(arguments: Sequence[str] | None = None) -> None:
    run_verb(USAGE, serve, arguments)


def serve(arguments: Sequence[str]) -> int:
    own, overrides = split(arguments, OWN)
    config = load(overrides)
    port, dsn = config.tracking.port, own["dsn"]
    if own["auth"] not in ("none", "basic"):
        raise ValueError(f"auth={own['auth']} is not one of its choices; choose one of none, basic.")
    password = server.admin_password(own["password_file"]) if own["auth"] == "basic" else ""
    remember_password(dsn)
    if dsn and not dsn.startswith("postgresql+"):
        raise ValueError("dsn= must be the address of a PostgreSQL database: postgresql+psycopg2://USER@HOST/DATABASE")
    TrackingConfig(dsn)
    refuse_missing_driver(dsn)
    refuse_busy(port)
    folder = Path(own["folder"] or config.results / "server").expanduser().absolute()
    with signals_as_exceptions(), database(folder, dsn) as uri:
        words = server.command(uri, folder / "artifacts", port=port, hosts=own["hosts"], users=bool(password))
        environment = server.users_environment(folder, password=password, database=uri) if password else {}
        process = server.start(words, folder=folder, environment=environment)
        try:
            server.wait_until_up(process, port=port, folder=folder)
            print(told(port, folder=folder, database=uri, has_users=bool(password)), flush=True)
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            process.terminate()
            process.wait()


def refuse_missing_driver(dsn: str) -> None:
    name = "psycopg" if dsn.startswith("postgresql+psycopg:") else "psycopg2"
    if find_spec(name) is None:
        raise ValueError(f"the driver {name} is missing: pip install 'stridelab[server]'")


@contextmanager
def database(folder: Path, dsn: str) -> Iterator[str]:
    """The address of the one to use; our own runs as long as the block does."""
    if dsn:
        server.refuse_unreachable(dsn)
        folder.mkdir(parents=True, exist_ok=True)
        yield dsn
        return
    postgres = Postgres(folder / "postgres")
    try:
        postgres.start()
        yield postgres.uri("mlflow")
    finally:
        postgres.stop()


def told(port: int, *, folder: Path, database: str, has_users: bool) -> str:
    address = f"http://127.0.0.1:{port}"
    login = "MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD=... " if has_users else ""
    return "\n".join(
        [
            f"{address}  (Ctrl-C ends it; {redact(os.path.relpath(folder))} holds all of it)",
            f"  train:   {login}{command('train')} tracking=server tracking.uri={address}",
            f"  move:    {login}{command('runs')} sync to={address}",
            f"  backup:  {redact(database)} and {redact(os.path.relpath(folder / 'artifacts'))}",
        ]
    )
