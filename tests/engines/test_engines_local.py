"""Promise: on one machine, in child processes or in this one, the bits are those of the engines, in both stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from injection import Evidence, evidence, sweep
from scenarios import SEEDS, expected, in_postgres, in_sqlite, specs

from stridelab.tracking.store import Store
from stridelab.tracking.sync import sync
from tracking_stores import Team


@pytest.mark.parametrize("launcher", ["local", "in_process"])
def test_both_stores_hold_the_same(team: Team, reference: list[Evidence], tmp_path: Path, launcher: str) -> None:
    store = Store(team.uri, "", f"of-{launcher}")
    words = [f"launcher={launcher}", f"tracking.uri={store.uri}", f"tracking.experiment={store.experiment}"]
    assert sweep(tmp_path, SEEDS, *words) == 0
    assert sync(store, tmp_path).complete
    assert [evidence(spec.folder) for spec in specs(tmp_path)] == reference
    assert in_postgres(team, store.experiment) == in_sqlite(tmp_path) == expected(tmp_path, reference)
