"""What this process needs only later, loaded while it waits: the process of the runs loads torch for seconds, on one
core."""

from __future__ import annotations

import logging
from importlib import import_module
from threading import Thread

from stridelab.system.processes import usable_cores
from stridelab.tracking.store import Store, modules_for

REPORT = ("stridelab.report.terminal", "stridelab.report.notebook")

log = logging.getLogger(__name__)


def load_ahead(store: Store, *, report: bool) -> None:
    """In the background; not on a single core, where it would only delay the first step."""
    if usable_cores() > 1:
        modules = [*modules_for(store), *(REPORT if report else ())]
        Thread(target=_load, args=(modules,), name="load-ahead", daemon=True).start()


def _load(modules: list[str]) -> None:
    for module in modules:
        try:
            import_module(module)
        except Exception:  # whoever needs it will say so
            log.debug("%s could not be loaded ahead", module, exc_info=True)
