"""`make faults` runs all of these tests; a plain test run leaves out those marked `faults`, the slow ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from stridelab.sweep.launchers.local import LocalLauncher
from tracking_stores import make_template

ALL = "STRIDELAB_FAULTS"
"""all: the slow tests too; nightly: and many seeds."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    mine = [item for item in items if here in item.path.parents]
    for item in mine:
        for text in (
            "ignore:This process .* is multi-threaded:DeprecationWarning",
            "ignore:.*isinstance.treespec, LeafSpec.*",
        ):
            item.add_marker(pytest.mark.filterwarnings(text))
    if ALL in os.environ or config.option.markexpr:
        return
    slow = [item for item in mine if item.get_closest_marker("faults")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


@pytest.fixture(scope="session")
def pool() -> LocalLauncher:
    return LocalLauncher(2)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as MLflow makes it, to be copied."""
    return make_template(tmp_path_factory.mktemp("template"))
