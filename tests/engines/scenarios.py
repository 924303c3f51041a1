"""What every engine must stand: the store away, a driver killed, two drivers at once. The same sweep of three runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from clusters import REPOSITORY, wait_until
from injection import TIMES, TINY, Evidence, agenda_of, attempts, evidence, stored, sweep

from stridelab.config.grid import grid_of
from stridelab.names import SEARCH_FILE
from stridelab.run import RunSpec
from stridelab.search.search import run_search
from stridelab.tracking.journal import JOURNAL, read
from stridelab.tracking.store import Store
from stridelab.tracking.sync import sync
from tracking_stores import Team

SEEDS = "seed=0,1,2"
Points = dict[str, dict[tuple[str, int], float]]
"""By signature, a metric's value by name and step."""


def specs(results: Path) -> Sequence[RunSpec]:
    return agenda_of(results, SEEDS).specs


def expected(results: Path, reference: list[Evidence]) -> Points:
    return {spec.folder.name: dict(one.points) for spec, one in zip(specs(results), reference, strict=True)}


def in_sqlite(results: Path) -> Points:
    return stored(results, [spec.folder for spec in specs(results)])


def in_postgres(team: Team, experiment: str) -> Points:
    """Of the runs, straight from the database; each value is there once."""
    found: Points = {}
    rows = team.rows(
        "SELECT tags.value, metrics.key, step, metrics.value FROM metrics JOIN tags USING (run_uuid) JOIN runs USING "
        "(run_uuid) JOIN experiments USING (experiment_id) WHERE tags.key = 'stridelab.signature' AND "
        f"experiments.name = '{experiment}' AND run_uuid NOT IN "
        "(SELECT run_uuid FROM tags WHERE key = 'stridelab.role' AND value = 'sweep')"
    )
    assert max(Counter(row.rpartition("|")[0] for row in rows).values()) == 1, "stored twice"
    for row in rows:
        signature, name, step, value = row.split("|")
        if not name.startswith(TIMES):
            found.setdefault(signature, {})[name, int(step)] = float(value)
    return found


def the_store_goes_away(results: Path, words: Sequence[str], team: Team, reference: list[Evidence]) -> None:
    """Server and database are killed while the sweep runs, and come back when it has ended."""
    store = Store(team.uri, "", f"away-{words[0].partition('=')[2]}")

    def go() -> None:
        wait_until(lambda: list(results.glob("runs/*/checkpoints/*")), 180)
        team.kill()

    away = Thread(target=go, daemon=True)
    away.start()
    assert sweep(results, SEEDS, *words, f"tracking.uri={store.uri}", f"tracking.experiment={store.experiment}") == 0
    away.join()
    team.start()
    assert sync(store, results).complete
    assert [evidence(spec.folder) for spec in specs(results)] == reference
    assert [attempts(spec.folder) for spec in specs(results)] == [1, 1, 1]
    assert in_postgres(team, store.experiment) == expected(results, reference)


def times_trained(folder: Path) -> int:
    """Openings of the run that recorded an epoch. One that finds the run finished takes it as it is."""
    found: list[set[str]] = []
    for record in read(folder / JOURNAL):
        if record.kind == "status" and record.data["status"] == "RUNNING":
            found.append(set())
        elif record.kind == "metrics":
            found[-1] |= set(record.data["values"])
    return sum("train/loss" in names for names in found)


@contextmanager
def driver(results: Path, words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """`train.py` with the sweep, once its first run has begun."""
    asked = [*TINY, f"paths.results_dir={results}", "sweep.name=test", SEEDS, *words]
    command = [sys.executable, "train.py", "-m", *asked]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: list(results.glob("runs/*/run.json")), 180)
        yield process


def two_drivers(
    results: Path, words: Sequence[str], reference: list[Evidence], capsys: pytest.CaptureFixture[str]
) -> None:
    with driver(results, words) as other:
        assert sweep(results, SEEDS, *words) == 0
        assert "the work is shared" in " ".join(capsys.readouterr().out.split()), "the other was at it, too"
        other.communicate(timeout=180)
        assert other.returncode == 0
    assert [evidence(spec.folder) for spec in specs(results)] == reference
    assert [times_trained(spec.folder) for spec in specs(results)] == [1, 1, 1]


def the_driver_is_killed(results: Path, words: Sequence[str], reference: list[Evidence]) -> None:
    with driver(results, words) as killed:
        killed.kill()
    assert sweep(results, SEEDS, *words) == 0
    assert [evidence(spec.folder) for spec in specs(results)] == reference


def a_search(results: Path, words: Sequence[str]) -> None:
    """Halving with two rungs, the second from the first one's checkpoints, ends as in this process."""
    asked = ["search=halving", "search.rungs=[1,2]", "search.keep=0.5", "search.front=false"]
    asked += ["sweep.plans=strides in {2-2-2,3-2-2,2-2-3}", "trainer.schedule=constant", "sweep.name=test", "seed=0"]
    tiny = [word for word in TINY if not word.startswith(("model.strides=", "trainer.max_epochs="))]
    found = []
    for engine in (words, ["launcher=in_process"]):
        place = results / engine[0].partition("=")[2]
        grid = grid_of([*tiny, "trainer.max_epochs=2", *asked, *engine, f"paths.results_dir={place}"])
        assert run_search(grid) == 0
        runs = {folder.name: evidence(folder) for folder in place.glob("runs/*")}
        found.append((runs, json.loads((place / "sweeps" / "test" / SEARCH_FILE).read_text())))
    assert len(found[0][0]) > 3
    assert found[0] == found[1]
