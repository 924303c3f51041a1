"""A file that a run kept and that can no longer be read costs its own part of a report, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from report_sweeps import grid, shared_results, shared_store, sweep_of
from spoil import empty, flip, truncate
from stridelab import names, report
from stridelab.report.artifacts import read_arrays
from stridelab.report.comparison import compare, feature_maps
from stridelab.report.explorer import network_arrays
from stridelab.report.mistakes import mistakes


def replace_by_another_kind(path: Path) -> None:
    path.write_bytes(b"[1, 2]")


SPOIL: tuple[Callable[[Path], None], ...] = (truncate, empty, flip, replace_by_another_kind)


@pytest.mark.parametrize("spoil", SPOIL)
def test_what_is_spoiled_in_one_run_leaves_every_number_of_the_table_as_it_was(spoil: Callable[[Path], None]) -> None:
    sweep = sweep_of(grid(seeds=(0,)), maps=True)
    before = compare(sweep).variants
    for path in sorted(shared_results().glob(f"runs/{sweep.name}-0/*.*")):
        if path.suffix in {".json", ".npz"} and path.name != "identity.json":
            spoil(path)
    comparison = compare(sweep)
    pd.testing.assert_frame_equal(comparison.variants.drop(columns="maps"), before.drop(columns="maps"))
    assert not feature_maps(sweep.runs[0])
    assert feature_maps(sweep.runs[1])
    found = mistakes(sweep)
    assert found is not None
    assert len(found.predicted) == 2


def test_a_report_is_written_where_no_run_has_a_file_that_can_be_read() -> None:
    sweep = sweep_of(grid(seeds=(0,)), maps=True)
    for path in sorted(shared_results().glob(f"runs/{sweep.name}-*/*.npz")):
        truncate(path)
    written = report.write_report(
        report.compare(sweep), shared_results() / "reports" / sweep.name, store=shared_store()
    )
    assert written.problems == ()
    assert written.explorer is None


@pytest.mark.parametrize(
    "arrays",
    [
        {"plan": "{}", "images": 1, "labels": 1, "trained/conv1/weight": 1},
        {"plan": "{}", "1/conv1/weight": 1},
    ],
    ids=["epochs named in words", "no images"],
)
def test_a_network_of_another_version_has_no_part_in_the_explorer(arrays: dict[str, object]) -> None:
    sweep = sweep_of(grid(seeds=(0,)))
    path = shared_results() / "runs" / f"{sweep.name}-0" / names.NETWORK_FILE
    np.savez_compressed(path, **{name: np.array(value) for name, value in arrays.items()})  # type: ignore[arg-type]
    assert network_arrays(sweep.runs[0]) == {}


def test_what_was_never_kept_is_empty(tmp_path: Path) -> None:
    assert read_arrays(sweep_of(grid(seeds=(0,))).runs[0], names.FEATURE_MAPS) == {}
