"""Benchmarks run, and say what they measured in one form; what they find is never tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import SECTIONS
from benchmarks.plan import AXES
from benchmarks.rows import cell, middle_of
from stridelab.cli.train import start
from stridelab.config import expand, load
from stridelab.plan import examine

BENCHMARK = Path(__file__).parents[1] / "scripts" / "benchmark.py"
FIELDS = ["section", "name", "strides", "batch", "value", "unit", "ratio", "n", "spread"]


def benchmark(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARK), *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a sweep of two variants, for the sections that measure one."""
    results = tmp_path_factory.mktemp("trained") / "results"
    small = ["data.train_size=100", "data.val_size=100", "trainer.max_epochs=1", "model.channels=[4,4]"]
    given = [*small, f"paths.results_dir={results}", "sweep.report=false"]
    assert start([load([*given, f"model.strides={strides}"]) for strides in ("4-2", "2-4")], multirun=True) == 0
    return results


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_prints_its_rows_and_writes_them_as_json(section: str, trained: Path, tmp_path: Path) -> None:
    needed = [f"paths.results_dir={trained}"] if section == "variants" else []
    done = benchmark(section, "size=tiny", "json=rows.json", *needed, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows
    for row in rows:
        assert list(row) == FIELDS
        assert row["section"] == section
        assert row["value"] > 0
        assert row["n"] >= 1
        assert row["unit"]
        assert row["name"] in done.stdout
        assert (row["spread"] is None) == (row["n"] == 1)
    assert len(done.stdout.splitlines()) == len(rows) + 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_the_largest_grid_of_plan_is_possible_throughout() -> None:
    """Every alternative in every pair of neighbouring axes; the whole grid would take a minute."""
    assert [len(values) for values in AXES.values()] == [10] * 5
    strides, kernels, padding, channels, batch = (f"{key}={','.join(values)}" for key, values in AXES.items())
    for arguments in ([strides, kernels, "model.padding=0,9"], [padding, channels], [batch, "model.padding=0"]):
        for job in expand(arguments):
            assert job.config, job.error
            assert examine(job.config, keys=()).error is None


def test_the_middle_of_measurements() -> None:
    assert middle_of([1.0, 2.0, 3.0, 4.0, 100.0]) == (3.0, 5, 2.0)
    assert middle_of([7.0]) == (7.0, 1, None)
    assert [cell(value) for value in (None, 0.01234, 12345.6, 3, "s")] == ["", "0.0123", "12,346", "3", "s"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plans"], "error: 'plans' is not a section; choose one of "),
        (["plan", "size=huge"], "error: size=huge is not one of its choices; choose one of full, tiny."),
        (["store", "runs=7"], "error: runs=7 must be a multiple of 50 (seeds a variant), 50,000 at most."),
        (["plan", "strides=1"], "error: strides=1 is not read here"),
        (["plan", "json=nowhere/rows.json"], "error: json=nowhere/rows.json cannot be written: its folder"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    done = benchmark(*arguments, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stdout == ""


def test_help_names_every_section(tmp_path: Path) -> None:
    done = benchmark("--help", folder=tmp_path)
    assert done.returncode == 0
    assert all(f"benchmark.py {section}" in done.stdout for section in SECTIONS)


def test_memory_is_predicted_within_five_percent_of_what_is_kept_and_handed_out():
    rows = list(SECTIONS["memory"].rows(tiny=True))
    assert len(rows) == 2
    assert all(0.95 <= row.ratio <= 1.05 for row in rows)
