"""Speed in the report: which figures are shown, what is said of them, and when they are not to be compared."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.console import Console

from report_sweeps import Fake, grid, sweep_of
from stridelab import report
from stridelab.benchmark.timing import Timing, VariantTimings
from stridelab.benchmark.workloads import WORKLOADS as MEASURED
from stridelab.metrics import METRICS
from stridelab.report.comparison import Comparison, compare
from stridelab.report.speed import CELLS, column_of, memory_note, phase_of, sharing_text, speed_note
from stridelab.report.terminal import print_variants

TRAINING, LATENCY = "throughput/train_images_per_s", "latency/batch1_ms"
ALONE = "benchmark/training_batch256_images_per_s"


def benchmarked(fake: Fake, *, session: str = "a", mark: str = "trusted", at_once: str = "2") -> Fake:
    """Twice as fast with every stride of 2."""
    speed = 2 ** fake.strides.count("2")
    timings = {cell: Timing(cell.batch, 12 * [10 * [cell.batch * 0.001 / speed]]) for cell in MEASURED}
    metrics = VariantTimings(fake.variant, threads=1, timings=timings).metrics()
    tags = {"benchmark": mark, "benchmark_session": session, "benchmark_setup": "A processor, 1 thread"}
    tags |= {"runs_at_once": at_once, "peak_rss": "of the run: above the level before it"}
    return replace(fake, metrics=metrics, tags={f"stridelab.{name}": value for name, value in tags.items()})


def comparison_of(*runs: Fake) -> Comparison:
    return compare(sweep_of(runs))


@pytest.fixture(scope="module")
def measured() -> Comparison:
    return comparison_of(*map(benchmarked, grid()))


@pytest.fixture(scope="module")
def partly() -> Comparison:
    """Seeds that came later have no figures of the phase; one attempt trained alone."""
    first, *others = grid()
    return comparison_of(first, *map(benchmarked, others))


def printed(comparison: Comparison) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_variants(comparison, console)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_what_is_measured_is_what_is_read_and_documented(measured: Comparison) -> None:
    assert tuple(cell.key for cell in MEASURED) == CELLS
    found = [name for name in measured.runs.columns if name.startswith("benchmark/")]
    assert found
    assert set(found) == {name for name in METRICS if name.startswith("benchmark/")}


def test_figures_of_the_phase_stand_for_those_of_training_where_all_runs_have_them(measured: Comparison) -> None:
    assert column_of(measured, TRAINING) == ALONE
    assert column_of(measured, LATENCY) == "benchmark/forward_batch1_ms"
    assert column_of(measured, "memory/peak_rss_mib") == "memory/peak_rss_mib_mean"
    speeds = measured.variants.set_index("variant")[ALONE]
    assert speeds["strides=1-2-2"] == pytest.approx(4000)
    assert "variants in turns, batches of 256." in speed_note(measured)
    page = report.show_variants(measured)
    assert "4,000" in page.html
    text = printed(measured)
    assert "img/s: training in turns, apart from the sweep." in text
    assert "4,000" in text
    titles = [axes.get_title(loc="left") for axes in report.draw(measured, "costs").axes]
    assert "Training speed alone, images/s (more is better)" in titles
    assert "Latency of one image, alone, ms" in titles


def test_the_table_of_speed_has_ratios_rounds_spread_and_mark(measured: Comparison) -> None:
    page = report.show_speed(measured)
    first, second, *_ = [re.split("  +", line) for line in page.text.partition("\u2500\n")[2].splitlines()]
    assert "<th scope='col' class='n' style='text-align:right'>spread, %</th>" in page.html
    assert first == ["strides=1-1-1", "1.00", "1.00x", "1.00", "1,000", "1.00x", "1,000", "1.00x", "12", "0.0", "yes"]
    assert second == ["strides=1-2-2", "0.250", "0.25x", "0.250", "4,000", "4.0x", "4,000", "4.0x", "12", "0.0", "yes"]
    assert "On: A processor, 1 thread." in page.html


def test_without_all_figures_the_speed_while_training_is_shown_and_what_shared_the_machine(partly: Comparison) -> None:
    assert column_of(partly, TRAINING) == f"{TRAINING}_mean"
    assert not phase_of(partly).complete
    assert "Training speed: measured while 2 runs trained at once and shared the machine;" in speed_note(partly)
    assert "img/s: training while 2 runs trained at once" in printed(partly)
    assert "Some finished runs have no figures" in report.show_speed(partly).html


def test_figures_of_two_sessions_are_not_compared() -> None:
    runs = [benchmarked(fake, session=f"2030-01-0{1 + fake.seed} 10:00 UTC, x") for fake in grid(["1-1-1", "1-2-2"])]
    comparison = comparison_of(*runs)
    assert column_of(comparison, TRAINING) == f"{TRAINING}_mean"
    html = report.show_speed(comparison).html
    assert "Measured at different times (2030-01-01 10:00 UTC, 2030-01-02 10:00 UTC): not to be compared." in html


def test_what_is_not_trusted_says_why_wherever_it_is_shown() -> None:
    why = "untrusted: <b>the machine was busy</b>"
    runs = [benchmarked(fake, mark=why if fake.strides == "1-2-2" else "trusted") for fake in grid(["1-1-1", "1-2-2"])]
    comparison = comparison_of(*runs)
    assert "not all of it is to be trusted: see Speed" in speed_note(comparison)
    html = report.show_speed(comparison).html
    assert "no: &lt;b&gt;the machine was busy&lt;/b&gt;" in html
    assert "<b>" not in html


def test_a_sweep_that_was_not_measured_is_told_how_to() -> None:
    comparison = comparison_of(*grid(["1-1-1"]))
    page = report.show_speed(comparison)
    assert "stridelab benchmark sweep=&lt;name&gt;" in page.html
    assert sharing_text(comparison) == "measured while the sweep trained"
    assert memory_note(comparison) == ""


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (["1", "1"], "measured while one run trained at a time"),
        (["4", "4"], "measured while 4 runs trained at once and shared the machine"),
        (["4", "1"], "measured while 1 to 4 runs trained at once and shared the machine"),
    ],
)
def test_with_how_many_the_machine_was_shared(counts: list[str], said: str) -> None:
    runs = [benchmarked(fake, at_once=count) for fake, count in zip(grid(["1-1-1"]), counts, strict=True)]
    assert sharing_text(comparison_of(*runs)) == said


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        (["CUDA graph", "CUDA graph"], ""),
        (["CUDA graph", "no CUDA graph: too large"], "others not (no CUDA graph: too large)."),
        (["", ""], ""),
    ],
)
def test_steps_of_two_kinds_are_not_compared_in_silence(ways: list[str], said: str) -> None:
    runs = [replace(fake, tags={"stridelab.step": way}) for fake, way in zip(grid(["1-1-1"]), ways, strict=True)]
    note = speed_note(comparison_of(*runs))
    assert ("Not alike" in note) == bool(said)
    assert said in note


@pytest.mark.parametrize(
    ("tags", "metrics", "said"),
    [
        ({"stridelab.peak_rss": "a bound: x"}, {}, "Peak memory: resident, a bound: x."),
        ({}, {"memory/peak_device_mib": 3.0}, "Peak memory: what the accelerator's allocator handed out"),
    ],
)
def test_what_the_peak_memory_is_of(tags: Mapping[str, str], metrics: Mapping[str, float], said: str) -> None:
    runs = [replace(fake, tags=tags, metrics=metrics) for fake in grid(["1-1-1"])]
    assert said in memory_note(comparison_of(*runs))
