"""What `stridelab runs` says of a store, and how it deletes: on a real store, in this process."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from report_sweeps import Fake, grid, record_sweep
from stridelab.cli import main as cli
from stridelab.cli import run_list
from stridelab.report.answer import next_step
from stridelab.report.comparison import compare
from stridelab.report.selection import find_selection
from stridelab.tables import as_text, fitted
from stridelab.tracking.find import find_run
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import Store, resolve_store


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of six runs, and one run of another that failed."""
    folder = tmp_path_factory.mktemp("runs") / "results"
    runs = [replace(fake, metrics={"probe/aliasing": fake.acc / 2}) for fake in grid()]
    record_sweep(folder, runs, name="strides-one")
    record_sweep(
        folder, [Fake("3-3-3", 0, acc=0.5), Fake("4-4-4", 1, acc=0.4, failure="\x1b[31mout of luck")], name="two"
    )
    return folder


@pytest.fixture
def runs(results: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str, code: int = 0, at: Path = results) -> str:
        try:
            cli.main(["runs", *arguments, f"paths.results_dir={at}"])
            ended = 0
        except SystemExit as end:
            ended = int(end.code or 0)
        said = capsys.readouterr()
        assert ended == code, said
        return said.err or said.out if code else said.out

    return call


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_all_runs_are_listed_the_newest_first(runs: Any) -> None:
    rows = rows_of(runs("list", "format=csv"))
    assert len(rows) == 8
    assert [row["started"] for row in rows] == sorted((row["started"] for row in rows), reverse=True)
    assert {row["sweep"] for row in rows} == {"strides-one", "two"}
    table = runs("list")
    assert table.count("1-1-1") == 2
    assert "\x1b" not in table
    assert json.loads(runs("list", "format=json"))[0].keys() == rows[0].keys()
    header, ruler = runs("list", "format=markdown").splitlines()[:2]
    assert ruler.startswith("| --- |")
    assert "| test/acc % |" in header, "as the cells below it"


def test_conditions_choose_and_columns_sort(runs: Any) -> None:
    grid_runs = grid()
    asked = ("list", "sweep=strides-one", "format=csv", "columns=name,seed,test/acc", "where=seed=1, test/acc>0.895")
    rows = rows_of(runs(*asked, "sort=-test/acc"))
    wanted = sorted((fake.acc for fake in grid_runs if fake.seed == 1 and fake.acc > 0.895), reverse=True)
    assert [float(row["test/acc"]) for row in rows] == wanted
    assert list(rows[0]) == ["id", "name", "seed", "test/acc"]
    rising = rows_of(runs("list", "format=csv", "columns=test/acc", "sort=test/acc", "where=name~1-1-1"))
    assert [float(row["test/acc"]) for row in rising] == sorted(
        fake.acc for fake in grid_runs if fake.strides == "1-1-1"
    )


def test_the_best_are_those_that_are_better_by_the_metric(runs: Any) -> None:
    best = runs("best", "limit=1")
    top = max(grid(), key=lambda fake: fake.acc)
    assert f"{100 * top.acc:.2f}" in best
    assert "more; limit= shows them" in best
    cheapest = runs("best", "metric=cost/macs", "limit=1")
    assert "3-3-3" in cheapest
    assert "4-4-4" not in runs("best", "limit=99")  # it did not finish


def test_what_a_probe_measured_has_its_unit_and_its_better_end(runs: Any) -> None:
    low, high = sorted(grid(), key=lambda fake: fake.acc)[:: len(grid()) - 1]
    best = runs("best", "metric=probe/aliasing", "limit=1")
    assert f"{100 * low.acc:.2f}" in best, "the least aliasing"
    assert f"{100 * high.acc:.2f}" not in best
    listed = runs("list", "sweep=strides-one", "columns=probe/aliasing", "sort=probe/aliasing").splitlines()
    assert listed[1].split() == ["id", "%"]
    assert listed[3].split()[-1] == f"{100 * low.acc / 2:.2f}"
    assert f"{low.acc / 2:.3%}"[:4] in runs("show", f"run={listed[3].split()[0]}")
    assert "energy of the layer's output" in runs("show", f"run={listed[3].split()[0]}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "where=test/ac>0.5"], "where=test/ac: no run has it; near it: test/acc"),
        (["list", "where=acc!!3"], "where=acc!!3 is not a condition; write key, one of <=, >="),
        (["list", "where=seed=77"], "none of the runs is so"),
        (["list", "sort=sed"], "sort=sed: no run has it; near it: seed"),
        (["best", "metric=test/ac"], "metric=test/ac: no run has it; near it: test/acc"),
        (["list", "columns=nam"], "columns=nam: no run has it; near it: name"),
        (["list", "format=xml"], "format=xml is not one of its choices; choose one of table, json, markdown, csv"),
        (["list", "limit=0"], "limit=0 must be a whole number of at least 1"),
        (["list", "sweep=none"], "sweep=none is not in"),
        (["show", "run=none"], "run=none is not in"),
        (["diff", "latest"], "two runs are compared, not 1"),
        (["delete"], "run= must name the run to delete"),
        (["lits"], "'lits' is not one of list, best"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(runs: Any, arguments: list[str], said: str) -> None:
    assert said in runs(*arguments, code=1)


def test_several_sweeps_are_one_comparison_and_conditions_choose_among_their_runs(results: Path) -> None:
    store = resolve_store(TrackingConfig(), results_dir=results)
    both = find_selection(store, "strides-one,two", results=results)
    assert len(both.runs) == 8
    assert both.folder_name == "strides-one-and-two"
    comparison = compare(both, baseline="2-2-1")
    assert comparison.names == [f"strides={text}" for text in ("1-1-1", "1-2-2", "2-2-1", "3-3-3", "4-4-4")]
    assert comparison.baseline == "strides=2-2-1"
    assert comparison.warnings == ()
    assert next_step(comparison)[0] == "", "no one command trains two sweeps"
    some = find_selection(store, "strides-one", where="seed=0, test/acc>0.1", results=results)
    assert [run.tags["stridelab.seed"] for run in some.runs] == ["0", "0", "0"]
    assert some.folder_name != "strides-one"
    with pytest.raises(ValueError, match="where=seed=77: none of the runs is so"):
        find_selection(store, "strides-one,two", where="seed=77", results=results)


def test_an_empty_store_has_no_runs(runs: Any, tmp_path: Path) -> None:
    assert "nothing has been run with this results folder" in runs("list", code=1, at=tmp_path / "nothing")


def test_one_run_is_shown_with_what_its_figures_mean(runs: Any, results: Path) -> None:
    rows = rows_of(runs("list", "format=csv", "columns=name", "where=name~1-2-2"))
    said = runs("show", f"run={rows[0]['id'][:12]}")
    assert rows[0]["id"] in said
    assert "images classified correctly" in said
    assert "config.json" in said
    assert f"reproduce paths.results_dir={results} run={rows[0]['id']}" in said.replace("reproduce.py", "reproduce")
    failed = rows_of(runs("list", "format=csv", "columns=name", "where=status=failed"))
    assert "out of luck" in runs("show", f"run={failed[0]['id']}")


def test_a_difference_names_what_differs_and_nothing_else(runs: Any) -> None:
    one, other = (row["id"] for row in rows_of(runs("list", "format=csv", "columns=name", "where=name~1-1-1")))
    said = runs("diff", one, other, code=1)
    assert "seed" in said
    assert "test/acc" in said
    assert "trainer.lr" not in said
    assert "packages: equal" in said
    assert "configuration: equal" in runs("diff", one, one)


def test_a_deleted_run_is_in_the_trash_with_its_folder(runs: Any, tmp_path: Path) -> None:
    results = tmp_path / "results"
    record_sweep(results, [Fake("1-1-1", 0, acc=0.8), Fake("2-2-2", 0, acc=0.7)], name="gone")
    (row,) = rows_of(runs("list", "format=csv", "columns=name", "where=name~2-2-2", at=results))
    assert "say yes=true" in runs("delete", f"run={row['id']}", code=1, at=results)
    assert "MLflow's trash" in runs("delete", f"run={row['id']}", "yes=true", at=results)
    assert [one["id"] for one in rows_of(runs("list", "format=csv", at=results))] != []
    assert row["id"] not in runs("list", "format=csv", at=results)
    assert [path.name for path in (results / "trash").iterdir()] == ["gone-1"]
    assert not (results / "runs" / "gone-1").exists()
    store = resolve_store(TrackingConfig(), results_dir=results)
    assert deleted(store, row["id"])
    with pytest.raises(ValueError, match="is not in"):
        find_run(store, row["id"], results=results)


def test_a_run_of_a_copied_results_folder_is_deleted_in_its_own_store(runs: Any, tmp_path: Path) -> None:
    """Its folder knows its run's id in the store that it was copied from."""
    results = tmp_path / "results"
    record_sweep(results, [Fake("1-1-1", 0, acc=0.8), Fake("2-2-2", 0, acc=0.7)], name="copied")
    (row,) = rows_of(runs("list", "format=csv", "columns=name", "where=name~2-2-2", at=results))
    copy = Path(copytree(results, tmp_path / "copy"))
    assert "MLflow's trash" in runs("delete", "run=strides=2-2-2 seed=0", "yes=true", at=copy)
    assert [path.name for path in (copy / "trash").iterdir()] == ["copied-1"]
    assert deleted(resolve_store(TrackingConfig(), results_dir=copy), row["id"])
    assert not deleted(resolve_store(TrackingConfig(), results_dir=results), row["id"])


def deleted(store: Store, run_id: str) -> bool:
    from mlflow import MlflowClient

    return bool(MlflowClient(store.uri).get_run(run_id).info.lifecycle_stage == "deleted")


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_columns_that_do_not_fit_are_left_out_whole(width: int) -> None:
    headings = ["name", *(f"metric/number_{at}" for at in range(12))]
    rows = [["a variant", *(f"{10**at:,}" for at in range(12))]]
    table, dropped = fitted(headings, rows, words={"name"}, width=width)
    lines = as_text(table, width=width).splitlines()
    assert max(map(len, lines)) <= width
    kept = len(headings) - len(dropped)
    assert headings[kept:] == dropped
    for number in rows[0][1:kept]:
        assert number in lines[-1]


def test_a_list_as_wide_as_the_terminal_says_what_is_missing(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(run_list.shutil, "get_terminal_size", lambda: __import__("os").terminal_size((80, 24)))
    assert "Not shown, for the width: " in runs("list")
