"""What only a real GPU shows: `make test-gpu`, minutes on one card. Without one every test here is skipped;
STRIDELAB_GPU=rehearse runs them on the processor instead, which tries the tests and not the GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from fits import REHEARSED, Fits

from stridelab.system.processes import usable_cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    here = [item for item in items if item.path.parent == Path(__file__).parent]
    for item in here:
        item.add_marker(pytest.mark.filterwarnings("default"))  # a card's own are shown, and no failure
        for text in ("This process .* is multi-threaded:DeprecationWarning", ".*isinstance.treespec, LeafSpec.*"):
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{text}"))
        if not REHEARSED and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no GPU here"))


@pytest.fixture(scope="session")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Fits:
    return Fits(tmp_path_factory.mktemp("fits"))


@pytest.fixture(scope="session")
def at_once() -> int:
    """Runs that train at the same time."""
    return 2 if REHEARSED else min(4, usable_cores())
