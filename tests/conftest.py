"""What all tests share: which faults a plain run leaves out, which files come first, an empty store, a pool."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from stridelab.sweep.launchers.local import LocalLauncher

ALL = "STRIDELAB_FAULTS"
"""all: the slow faults too; nightly: and many seeds."""
LONG = (
    *("test_your_own", "test_models_trace", "test_explorer", "test_documents", "test_train", "test_extension_points"),
    *("test_system", "test_training_ranks", "test_faults_sweeps", "test_loaded_code", "test_report_figures"),
    *("test_report_notebook", "test_training_start", "test_tracking_team", "test_tasks", "test_plan", "test_search"),
    *("test_models_families", "test_training", "test_config", "test_tracking_mirror", "test_data_cache"),
    *("test_evidence", "test_faults_killed", "test_measurement_runs", "test_training_speed", "test_archive"),
    *("test_report_html", "test_mlflow_pages", "test_faults_store", "test_faults_spoiled", "test_tracking_server"),
)
"""These files take longest, in this order; begun last, one process would work at them and the other at nothing."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in ("faults", "engines"):
            for text in (
                "ignore:This process .* is multi-threaded:DeprecationWarning",
                "ignore:.*isinstance.treespec, LeafSpec.*",
            ):
                item.add_marker(pytest.mark.filterwarnings(text))
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    if ALL in os.environ or config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("faults")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


def pytest_collection_finish() -> None:
    """What is loaded by now stays: runs in this process that collect garbage need not look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the threads that have sent something to a store."""
    from stridelab.tracking.journal_cursor import Cursor

    found, pump = set[str](), Cursor.pump

    def told(*given: Any, **named: Any) -> bool:
        found.add(threading.current_thread().name)
        return pump(*given, **named)

    monkeypatch.setattr(Cursor, "pump", told)
    return found


@pytest.fixture(scope="session")
def pool() -> LocalLauncher:
    from stridelab.sweep.launchers.local import LocalLauncher

    return LocalLauncher(2)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as MLflow makes it, to be copied."""
    from tracking_stores import make_template

    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(autouse=True, scope="session")
def _migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow makes an empty SQLite file into a store by 68 migrations, in a second: in this process once, and every
    other is a copy of that one."""
    from mlflow.store.db import utils

    migrate, template = utils._initialize_tables, tmp_path_factory.mktemp("migrated") / "store.db"

    def initialize(engine: Engine) -> None:
        if engine.dialect.name != "sqlite":
            migrate(engine)
            return
        if not template.exists():
            made = utils.create_sqlalchemy_engine(f"sqlite:///{template}")
            migrate(made)
            made.dispose()
        with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(engine.url.database)) as copy:
            source.backup(copy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", initialize)
        yield


@pytest.fixture(autouse=True)
def _no_password_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process hides every password that it was given wherever it stands, so also one of an earlier test."""
    monkeypatch.setattr("stridelab.tracking.settings._given", set())
