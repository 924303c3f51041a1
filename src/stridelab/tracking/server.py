"""The MLflow server of a team: its command, its users, and when it answers."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from stridelab.system.files import write_atomic

from .settings import redact
from .store import SETTINGS, reach

PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
"""MLflow's own name; read when the user `admin` is made."""
SHORTEST_PASSWORD = 12
"""MLflow's rule."""
SECRET, USERS, LOG = "secret", "users.ini", "server.log"
START_S = 120.0


def command(database: str, artifacts: Path, *, port: int, hosts: str = "", users: bool = False) -> list[str]:
    """`hosts`: names, beside this machine's, under which a browser or a proxy asks for the pages."""
    allowed = [f"127.0.0.1:{port}", f"localhost:{port}", *filter(None, hosts.split(","))]
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", database, "--artifacts-destination", str(artifacts)),
        *("--allowed-hosts", ",".join(allowed), *(["--app-name", "basic-auth"] if users else [])),
    ]


def users_environment(folder: Path, *, password: str, database: str) -> dict[str, str]:
    """Of a server that asks for names: its settings in `folder`, without the password; who has no rights of his own
    may read and write."""
    secret = folder / SECRET
    if not secret.exists():
        write_atomic(secret, secrets.token_hex(32))
        secret.chmod(stat.S_IRUSR | stat.S_IWUSR)
    write_atomic(
        folder / USERS,
        f"[mlflow]\ndefault_permission = EDIT\ndatabase_uri = {database.replace('%', '%%')}\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n",  # else each request hashes the password for tens of milliseconds
    )
    (folder / USERS).chmod(stat.S_IRUSR | stat.S_IWUSR)  # the address of the database may hold a password
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / USERS),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret.read_text(),
        PASSWORD: password,
    }


def admin_password(file: str) -> str:
    """From `file`, which only its owner may read, else from the environment. ValueError where there is none, or one
    that MLflow would not take."""
    given = os.environ.get(PASSWORD, "")
    if file:
        path = Path(file).expanduser()
        if not path.is_file():
            raise ValueError(f"password_file={file}: there is no such file.")
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ValueError(f"password_file={file} can be read by others; chmod 600 {file}")
        given = path.read_text(encoding="utf-8").strip()
    if len(given) < SHORTEST_PASSWORD:
        rule = f"a password of {SHORTEST_PASSWORD} characters or more for the user admin"
        raise ValueError(f"auth=basic needs {rule}: in {PASSWORD}, or in a file of mode 600 with password_file=.")
    return given


def refuse_unreachable(database: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        reach(database)
    except (SQLAlchemyError, ImportError) as error:
        said = " ".join(redact(str(error)).partition("(Background")[0].split())
        raise ValueError(f"the database {redact(database)} cannot be used: {said}") from None


def start(command: list[str], *, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """What it prints goes to `server.log` in `folder`. In a session of its own, so that Ctrl-C is not for it."""
    with (folder / LOG).open("ab") as log:
        known = SETTINGS | dict(os.environ) | dict(environment)
        return subprocess.Popen(command, env=known, stdout=log, stderr=log, start_new_session=True)


def wait_until_up(process: subprocess.Popen[bytes], *, port: int, folder: Path) -> None:
    """ValueError, with the last line of its log, when it ends instead or takes too long."""
    until = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                said = (folder / LOG).read_text(errors="replace").split("\n")[-2:]
                raise ValueError(f"mlflow server does not start ({folder / LOG}): {' '.join(said)[:300]}") from None
            time.sleep(0.1)
