"""Run a notebook in a kernel of its own: this very Python, local sockets, none of the user's IPython files."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode


def execute(notebook: NotebookNode, *, folder: Path, timeout_s: float) -> list[str]:
    """Run every cell in `folder`, outputs into `notebook`; what went wrong, one line each.

    A cell that fails keeps its traceback and the others still run; a cell that outlasts `timeout_s` or a kernel that
    dies ends the run.
    """
    # Not in `folder`: a socket's path may have 108 bytes at most.
    with TemporaryDirectory(prefix="stridelab-") as scratch:
        client = _client(notebook, Path(scratch), folder=folder, timeout_s=timeout_s)
        # Not client.execute(): it replaces the process's handlers of SIGINT and SIGTERM.
        try:
            with client.setup_kernel(env=_environment(scratch), cleanup_kc=True):
                for index, cell in enumerate(notebook.cells):
                    client.execute_cell(cell, index)
        except (CellTimeoutError, DeadKernelError, RuntimeError, OSError) as error:
            return [*_errors(notebook), f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"]
    return _errors(notebook)


def _client(notebook: NotebookNode, scratch: Path, *, folder: Path, timeout_s: float) -> NotebookClient:
    kernel: Any = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # a "python3" in the home may be another Python
        transport="ipc" if os.name == "posix" else "tcp",
        connection_file=str(scratch / "kernel.json"),
    )
    return NotebookClient(
        notebook,
        km=kernel,
        timeout=int(timeout_s),
        startup_timeout=int(timeout_s),
        allow_errors=True,
        shutdown_kernel="immediate",
        record_timing=False,  # the same store gives the same bytes
        resources={"metadata": {"path": str(folder)}},
    )


def _environment(scratch: str) -> dict[str, str]:
    """Startup files, settings and history stay out; the store's address, which may hold a password, stays in."""
    return os.environ | {"IPYTHONDIR": scratch, "MPLBACKEND": "agg"}


def _errors(notebook: NotebookNode) -> list[str]:
    return [
        f"cell {number}: {output.ename}: {output.evalue}"
        for number, cell in enumerate(notebook.cells, start=1)
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
