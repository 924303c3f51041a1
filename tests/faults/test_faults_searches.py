"""Promise: a search that is killed in the middle of a rung goes on with the same command: nothing that was finished is
trained again, and it ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from injection import use_store
from test_faults_sweeps import TRAIN, heed_signals, nobody_is_left, wait_for

from stridelab.config.grid import grid_of
from stridelab.search.search import run_search

WORDS = (
    "sweep.plans=strides in {2-2,3-3,2-3}", "model.channels=4-4", "data.train_size=300", "data.val_size=100",
    "trainer.schedule=constant", "trainer.feature_map_images=0", "sweep.report=false", "sweep.name=test",
)  # fmt: skip
SEARCHES = {
    "halving": ("search.rungs=[8,16]", "trainer.max_epochs=16", "search.keep=0.5", "search.front=false", "seed=0"),
    "optuna": ("search.trials=3", "search.batch=2", "trainer.max_epochs=12", "seed=0"),
    "race": ("trainer.max_epochs=8", "seed=0,1,2"),
}


def arguments(results: Path, name: str) -> list[str]:
    return [f"search={name}", *WORDS, *SEARCHES[name], f"paths.results_dir={results}"]


def finished(results: Path) -> dict[str, tuple[str, int]]:
    """Of each run that is: the digest of its weights, and when it ended."""
    return {
        path.parent.name: (json.loads(path.read_text())["weights_digest"], path.stat().st_mtime_ns)
        for path in results.glob("runs/*/result.json")
    }


def told(results: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / "sweeps" / "test" / "search.json").read_text())
    return found


@pytest.mark.faults
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_is_killed_in_the_middle_of_a_rung(tmp_path: Path, template: Path, name: str) -> None:
    if name == "optuna" and find_spec("optuna") is None:
        pytest.skip("needs the package optuna")
    results = use_store(tmp_path / "killed", template)
    command = [sys.executable, str(TRAIN), *arguments(results, name), "launcher=local"]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, preexec_fn=heed_signals) as process:
        wait_for(results, "runs/*/result.json")
        os.killpg(process.pid, signal.SIGKILL)
    nobody_is_left(process.pid)
    before = finished(results)
    assert before
    assert not (results / "sweeps" / "test").exists(), "it was still searching"
    assert run_search(grid_of([*arguments(results, name), "launcher=in_process"])) == 0
    after = finished(results)
    assert {run: after[run] for run in before} == before, "what was finished was not trained again"
    undisturbed = use_store(tmp_path / "undisturbed", template)
    assert run_search(grid_of([*arguments(undisturbed, name), "launcher=in_process"])) == 0
    assert {run: one[0] for run, one in after.items()} == {run: one[0] for run, one in finished(undisturbed).items()}
    assert told(results) == told(undisturbed)
