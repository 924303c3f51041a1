"""How a person gets from a terminal to the right page of the MLflow UI."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from stridelab import names
from stridelab.text import plural

from .settings import redact
from .store import Store
from .view import key_of

PORT = 5000
VIEW = "workflowType=machine_learning"
"""Without it MLflow 3 puts a page into its frame for language models, or opens an empty one."""


def ui_command(store: Store, *, port: int = PORT) -> str:
    """What opens the store in a browser: a command for a shell, or the server's address."""
    if store.is_served:
        return redact(store.uri)
    words = [_mlflow(), "ui", "--backend-store-uri", redact(store.uri), "--host", "127.0.0.1", "--port", str(port)]
    # Without the last setting and with MLflow's four workers: 15 processes, 2 GB, 40 ms more a request.
    return f"DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {shlex.join([*words, '--workers', '1'])}"


def _mlflow() -> str:
    """`mlflow`, or its path when that name means nothing, or another environment's, in the user's shell."""
    ours = Path(sys.executable).parent / "mlflow"
    found = shutil.which("mlflow")
    if not ours.exists() or (found and os.path.realpath(found) == os.path.realpath(ours)):
        return "mlflow"
    near = os.path.relpath(ours)
    return str(ours) if near.startswith("..") else near


def ui_base(store: Store, *, port: int = PORT) -> str:
    """Without a name and a password: links are kept and passed on."""
    return re.sub(r"://[^/\s]*@", "://", store.uri) if store.is_served else f"http://127.0.0.1:{port}"


def run_link(base: str, *, experiment_id: str, run_id: str) -> str:
    return f"{base}/#/experiments/{experiment_id}/runs/{run_id}?{VIEW}"


def sweep_link(base: str, *, experiment_id: str, run_id: str, metric: str = "val/acc", charts: bool = True) -> str:
    """The runs of the sweep whose own run is `run_id`, best first; as charts or as a table."""
    query = {
        "searchFilter": f"tags.`{names.PARENT_RUN}` = '{run_id}'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": "false",
    } | ({"compareRunsMode": "CHART"} if charts else {})
    words = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
    return f"{base}/#/experiments/{experiment_id}/runs?{VIEW}&{words}"


def view_link(base: str, *, experiment_id: str, run_id: str, charts: bool = True) -> str:
    """The runs of a sweep as its own run has prepared them: see tracking/view.py."""
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"{base}/#/experiments/{experiment_id}/runs?{VIEW}&viewStateShareKey={key_of(run_id)}{mode}"


def sweep_note(answer: str, *, experiment_id: str, run_id: str, num_runs: int) -> str:
    """Markdown for the sweep's run in the UI; its links lead inside the UI, wherever that is served."""
    charts, table = (view_link("", experiment_id=experiment_id, run_id=run_id, charts=on) for on in (True, False))
    report = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts?{VIEW}"
    links = f"{plural(num_runs, 'run')} [as charts]({charts}) or [as a table]({table}); the report is `comparison.html`"
    return f"{answer}\n\n{links} among [this run's artifacts](/{report})."
