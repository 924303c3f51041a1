"""Tables, paired differences, the control check and the words, on sweeps in a real store."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from report_sweeps import Fake, grid, record_sweep, sweep_of
from stridelab import report
from stridelab.config import Config
from stridelab.config.variants import affects_results, science
from stridelab.geometry import compose, layer
from stridelab.geometry.totals import map_sizes
from stridelab.metrics import METRICS
from stridelab.models.families import is_geometry
from stridelab.report import statistics
from stridelab.report.differences import differences, paired
from stridelab.report.mistakes import image_error
from stridelab.report.provenance import command_text, origin
from stridelab.report.selection import select
from stridelab.report.sentences import equivalent_text, interval_text, points, summary, verdict_text
from stridelab.report.table import IDENTITY, variant_table, write_csv
from stridelab.report.terminal import variants_table
from stridelab.tables import as_text
from stridelab.text import maps
from stridelab.tracking.find import SweepRecord

MIXED = [
    *grid(seeds=range(3)),
    Fake("3-3-3", 0, 0.80),
    Fake("3-3-3", 1, 0.81, failure="loss is NaN at step 120"),
    Fake("1-1-2", 0, 0.9, failure="refused: conv3 collapses"),
]


@pytest.fixture(scope="module")
def mixed() -> SweepRecord:
    return sweep_of(MIXED)


def test_one_row_a_run_in_sweep_order_with_nothing_dropped(mixed: SweepRecord) -> None:
    table = report.run_table(mixed)
    assert list(table["run_name"]) == [f"{fake.variant} seed={fake.seed}" for fake in MIXED]
    assert list(table["seed"]) == [fake.seed for fake in MIXED]
    assert list(table["status"]) == ["finished"] * 10 + ["failed"] * 2
    assert table["reason"].iloc[10] == "FakeFailure: loss is NaN at step 120"
    np.testing.assert_array_equal(table["test/acc"][:10], [fake.acc for fake in MIXED[:10]])
    assert table["test/acc"][10:].isna().all()
    assert table["stride_2"].tolist() == [int(fake.strides.split("-")[1]) for fake in MIXED]


def test_every_column_of_the_run_table_is_documented(mixed: SweepRecord) -> None:
    table = report.run_table(mixed)
    swept = {"stride_1", "stride_2", "stride_3"}
    assert set(table.columns) - swept <= {*IDENTITY, *METRICS}
    assert list(table.columns)[:7] == ["run_id", "run_name", "variant", "seed", "status", "reason", "maps"]


@pytest.mark.parametrize(
    ("status", "tag", "shown"),
    [
        ("FAILED", "refused", ("refused", "conv3 collapses")),
        ("FAILED", "diverged", ("diverged", "conv3 collapses")),
        ("KILLED", None, ("killed", "conv3 collapses")),
        ("RUNNING", "failed", ("running", "")),  # tag and reason are an earlier attempt's
        ("FINISHED", "failed", ("finished", "")),
    ],
)
def test_how_a_run_ended(mixed: SweepRecord, status: str, tag: str | None, shown: tuple[str, str]) -> None:
    tags = dict(mixed.runs[-1].tags) | ({"stridelab.status": tag} if tag else {})
    run = replace(mixed.runs[-1], status=status, tags=tags, reason="ValueError: refused: conv3 collapses")
    table = report.run_table(replace(mixed, runs=(run,)))
    assert (table["status"][0], table["reason"][0]) == shown


def test_geometry_and_cost_of_a_variant_are_those_of_its_layer_plan(mixed: SweepRecord) -> None:
    table = report.compare(mixed).variants.set_index("variant")
    assert table["maps"].tolist() == ["28>28>28>28", "28>28>14>7", "28>14>7>7", "28>10>4>2", "28>28>28>14"]
    assert table.loc["strides=1-2-2", "cost/macs"] == sum(layer.macs for layer in MIXED[3].geometry)
    assert table.loc["strides=1-2-2", "cost/receptive_field_px"] == 9
    assert table.loc["strides=1-1-2", "cost/macs"] == sum(
        layer.macs for layer in MIXED[-1].geometry
    )  # though it failed
    assert math.isnan(table.loc["strides=1-1-2", "test/acc_mean"])


def test_variant_table_holds_n_mean_sd_and_student_s_interval(mixed: SweepRecord) -> None:
    table = variant_table(report.run_table(mixed))
    assert table["variant"].tolist() == [f"strides={s}" for s in ("1-1-1", "1-2-2", "2-2-1", "3-3-3", "1-1-2")]
    assert table["n"].tolist() == [3, 3, 3, 1, 0]
    assert table["not_finished"].tolist() == [0, 0, 0, 1, 1]
    for index, strides in enumerate(("1-1-1", "1-2-2", "2-2-1")):
        values = np.array([fake.acc for fake in MIXED if fake.strides == strides])
        row = table.iloc[index]
        assert row["test/acc_mean"] == pytest.approx(values.mean())
        assert row["test/acc_sd"] == pytest.approx(np.std(values, ddof=1))
        interval = scipy.stats.t.interval(0.95, 2, loc=values.mean(), scale=scipy.stats.sem(values))
        np.testing.assert_allclose(row[["test/acc_low", "test/acc_high"]].astype(float), interval)
    assert table.loc[3, ["test/acc_sd", "test/acc_low", "test/acc_high"]].isna().all()


def test_differences_are_paired_by_seed_and_only_where_both_have_it() -> None:
    runs = [Fake("1-1-1", seed, 0.9 + 0.01 * seed) for seed in (0, 1, 2, 5)]
    runs += [Fake("2-2-2", seed, 0.88 + 0.01 * seed + 0.001 * (seed == 2)) for seed in (2, 1, 3)]
    runs += [Fake("1-2-2", 9, 0.5)]
    table = report.run_table(sweep_of(runs))
    wide = paired(table, metric="test/acc", baseline="strides=1-1-1")
    assert wide["strides=2-2-2"].dropna().index.tolist() == ["1", "2"]
    np.testing.assert_allclose(wide["strides=2-2-2"].dropna(), [-0.02, -0.019])
    found = differences(table, metric="test/acc", baseline="strides=1-1-1").set_index("variant")
    assert found["n"].tolist() == [0, 2, 0]
    assert found["verdict"].tolist() == [statistics.BASELINE, statistics.TOO_FEW, statistics.UNPAIRED]
    assert math.isnan(found.loc["strides=2-2-2", "p"])  # with two seeds there is no p below 0.5


def test_pairing_removes_what_seeds_share() -> None:
    shared = np.random.default_rng(0).normal(0, 0.01, 8)
    runs = [Fake("1-1-1", seed, 0.9 + shared[seed]) for seed in range(8)]
    runs += [Fake("1-2-2", seed, 0.897 + shared[seed] + 0.0002 * (seed % 2)) for seed in range(8)]
    comparison = report.compare(sweep_of(runs))
    row = comparison.by_variant["strides=1-2-2"]
    assert row["difference_verdict"] == statistics.DIFFERS
    assert row["difference_p"] == 2 / 2**8
    assert row["difference_high"] < 0
    accs = [[fake.acc for fake in runs if fake.strides == strides] for strides in ("1-2-2", "1-1-1")]
    ends = row["difference_low"], row["difference_high"]
    np.testing.assert_allclose(ends, scipy.stats.ttest_rel(*accs).confidence_interval(0.95))
    assert row["pareto"] == "front"
    table = comparison.variants
    assert table["test/acc_low"][0] < table["test/acc_high"][1]  # unpaired, the intervals overlap


def test_two_runs_of_one_variant_and_seed_count_as_one() -> None:
    runs = [Fake("1-1-1", 0, 0.90), Fake("1-1-1", 0, 0.92), Fake("1-1-1", 1, 0.95)]
    comparison = report.compare(sweep_of(runs))
    row = comparison.by_variant["strides=1-1-1"]
    assert (row["n"], row["test/acc_mean"]) == (2, pytest.approx(0.93))
    assert any(
        "share variant and seed" in text or "shares variant and seed" in text for text in comparison.controls.caveats
    )


def test_the_baseline_is_the_first_variant_with_a_result_or_the_chosen_one() -> None:
    sweep = sweep_of([Fake("1-1-1", 0, 0.9, failure="x"), Fake("1-2-2", 0, 0.8), Fake("2-2-2", 0, 0.7)])
    assert report.compare(sweep).baseline == "strides=1-2-2"
    chosen = report.compare(sweep, baseline="strides=2-2-2")
    assert chosen.by_variant["strides=1-2-2"]["difference_mean"] == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"baseline='nothing' is not a variant of this sweep; choose one of strides=1"):
        report.compare(sweep, baseline="nothing")


def test_csv_keeps_numbers_and_disarms_formulas(tmp_path: Path) -> None:
    table = pd.DataFrame({"name": ['=HYPERLINK("http://x")', "+1", "-2", "@x", "\tx", 'plain, "quoted"\nline']})
    table["=column"] = [-1.5, 0.1, math.nan, 3, 1e-9, 2]
    path = write_csv(table, tmp_path / "t.csv")
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert rows[0] == ["name", "'=column"]
    assert [row[0] for row in rows[1:]] == [
        "'=HYPERLINK(\"http://x\")", "'+1", "'-2", "'@x", "\\tx", 'plain, "quoted"\\nline',
    ]  # fmt: skip
    assert [row[1] for row in rows[1:]] == ["-1.5", "0.1", "", "3.0", "1e-09", "2.0"]


@given(st.lists(st.integers(1, 64), min_size=1, max_size=9))
def test_map_sizes_of_a_deep_network_name_only_the_changes(sides: list[int]) -> None:
    """Strides of 1 and 2, as the sizes fall."""
    size, layers, expected = 64, [], [64]
    for number, side in enumerate(sides):
        step = 2 if side % 2 and size > 2 else 1
        layers.append(layer("conv", name=f"conv{number}", kernel_size=3, stride=step, padding="half"))
        size = -(-size // step)
        expected.append(size)
    listed = [height for height, _ in map_sizes((64, 64), compose(layers, input_size=64))]
    if len(expected) <= 8:
        assert listed == expected
    else:
        assert listed == [side for i, side in enumerate(expected) if i == 0 or side != expected[i - 1]]


def test_map_sizes_that_are_not_square() -> None:
    one = compose([layer("conv", kernel_size=3, stride=(1, 2), padding="half")], input_size=28)
    assert maps(map_sizes((28, 28), one)) == "28>28x14"


def test_the_control_check_passes_when_all_digests_agree(mixed: SweepRecord) -> None:
    controls = report.compare(mixed).controls
    assert controls.passed
    assert controls.violations.empty
    assert controls.sentence == (
        "Control check passed: for each of 3 seeds, all variants had identical initial weights, batch order and data "
        "(digests compared)."
    )


def test_the_control_check_names_what_differs_and_where() -> None:
    runs = grid(strides=("1-1-1", "1-2-2"), seeds=(0, 1))
    runs[3] = replace(runs[3], tags={"stridelab.batch_order_digest": "another"})
    controls = report.compare(sweep_of(runs)).controls
    assert not controls.passed
    assert controls.sentence.startswith("Control check FAILED: for 1 of 2 seeds the variants differ in batch order;")
    (violation,) = controls.violations.to_dict("records")
    assert (violation["seed"], violation["what"], violation["problem"]) == (1, "batch order", "2 different digests")
    assert violation["runs"] == "b1: strides=1-1-1 seed=1; another: strides=1-2-2 seed=1"


def test_a_digest_that_was_not_recorded_is_not_called_equal() -> None:
    runs = grid(strides=("1-1-1", "1-2-2"), seeds=(0,))
    runs[0] = replace(runs[0], tags={"stridelab.init_digest": ""})
    sweep = sweep_of(runs)
    bare = tuple(replace(run, tags={k: v for k, v in run.tags.items() if v}) for run in sweep.runs)
    controls = report.compare(replace(sweep, runs=bare)).controls
    assert not controls.passed
    assert controls.sentence.startswith(
        "Control check incomplete: for 1 of 1 seed the initial weights were not recorded"
    )


def test_one_variant_alone_has_nothing_to_check() -> None:
    controls = report.compare(sweep_of(grid(strides=("1-1-1",)))).controls
    assert not controls.passed
    assert controls.sentence.startswith("Control check not possible")


def test_a_flatten_head_is_said_to_confound_the_comparison() -> None:
    runs = [
        Fake(strides, 0, 0.9, head="flatten", tags={"stridelab.init_digest": strides}) for strides in ("1-1-1", "1-2-2")
    ]
    controls = report.compare(sweep_of(runs)).controls
    assert controls.violations["problem"].tolist() == [
        "2 different digests (the networks differ in their number of parameters)"
    ]
    assert "The variants differ in their number of parameters" in controls.caveats[0]
    assert "confounded" in controls.caveats[0]


def test_a_variant_whose_cost_is_not_one_number_is_called_out() -> None:
    runs = [Fake("1-1-1", 0, 0.9, name="one name"), Fake("2-2-2", 1, 0.9, name="one name")]
    caveats = report.compare(sweep_of(runs)).controls.caveats
    assert any(text.startswith("cost/macs differs between runs of one variant (one name)") for text in caveats)


def test_what_else_was_varied_is_said() -> None:
    runs = [Fake("1-1-1", 0, 0.9), Fake("1-2-2", 0, 0.9, padding="same", epochs=2, name="fewer epochs")]
    caveats = report.compare(sweep_of(runs)).controls.caveats
    assert caveats == ("The variants differ in trainer.max_epochs, not in stride and padding alone.",)


def test_ways_of_down_sampling_are_no_confounder_and_what_differs_with_them_is_said() -> None:
    runs = [Fake("1-2-2", 0, 0.9), Fake("1-2-2", 0, 0.9, downsample="blur_pool", name="blurred")]
    controls = report.compare(sweep_of(runs)).controls
    assert controls.passed
    (caveat,) = controls.caveats
    assert caveat.startswith("The variants differ in how they down-sample (model.downsample): ")
    assert is_geometry("model.stem_stride")
    assert not any(map(is_geometry, ("model.width", "model.stem_kernel", "trainer.lr")))


def test_a_sweep_without_runs_is_refused_in_words(mixed: SweepRecord) -> None:
    with pytest.raises(ValueError, match="sweep strides-1 has no runs in the store"):
        report.compare(replace(mixed, name="strides-1", runs=()))


def test_metrics_that_are_not_numbers_do_not_spoil_the_table() -> None:
    sweep = sweep_of(grid(strides=("1-1-1", "1-2-2")))
    first = sweep.runs[0]
    broken = replace(first, metrics=dict(first.metrics) | {"test/loss": math.inf, "train/loss": math.nan})
    table = report.compare(replace(sweep, runs=(broken, *sweep.runs[1:]))).variants
    assert table["test/acc_mean"].notna().all()
    assert table["train/loss_sd"].isna().tolist() == [True, False]


def test_the_summary_says_what_was_run_and_how_many_seeds_a_verdict_takes(mixed: SweepRecord) -> None:
    said = summary(report.compare(mixed))
    assert said[0] == "5 variants, 12 runs: 10 finished, 2 failed."
    assert "With 3 comparisons (Holm), a paired sign-flip test needs at least 7 seeds to reach p < 0.05." in said


def test_the_table_calls_a_difference_what_it_is() -> None:
    own = np.random.default_rng(7).normal(0, 0.002, (2, 8))
    runs = [Fake("1-1-1", seed, 0.9) for seed in range(8)]
    runs += [Fake("2-2-2", seed, 0.87 + own[0, seed]) for seed in range(8)]
    runs += [Fake("1-1-1", seed, 0.9 + own[1, seed] - own[1].mean(), name="twin") for seed in range(8)]
    comparison = report.compare(sweep_of(runs))
    assert verdict_text(comparison.by_variant["strides=2-2-2"]) == "differs (p=0.016)"
    assert verdict_text(comparison.by_variant["twin"]).startswith("undecided (p=")
    assert not any("at least" in sentence for sentence in summary(comparison))


def test_a_narrow_interval_gets_another_digit() -> None:
    assert interval_text(-0.0046, -0.0090, -0.0002) == "-0.5 [-0.9, 0.0]"
    assert interval_text(-0.0004, -0.0006, -0.0002) == "-0.04 [-0.06, -0.02]"
    assert interval_text(-0.0004, math.nan, math.nan) == "0.0"


@given(st.floats(-1, 1))
def test_points_are_signed_unless_they_round_to_nothing(difference: float) -> None:
    text = points(difference)
    assert float(text) == pytest.approx(100 * difference, abs=0.0501)
    assert text == "0.0" if float(text) == 0 else text[0] in "+-"


def test_origin_tells_command_commit_machine_and_what_all_runs_share(mixed: SweepRecord) -> None:
    found = origin(mixed)
    assert found.command == "python train.py -m 'model.strides=[1,1,1],[1,2,2],[2,2,1]' seed=0,1"
    assert found.commit == "0123456789ab with uncommitted changes"
    assert found.machine == "A processor, 2 cores, Linux"
    assert found.recipe["channels"] == "16-32-64"
    assert found.recipe["kernel sizes"] == "3"
    assert found.recipe["epochs"] == "3"
    assert "strides" not in found.recipe  # it varies


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], ""),
        (["/home/someone/lab/train.py", "seed=0"], "python train.py seed=0"),
        (["/opt/bin/stridelab-train", "a b"], "stridelab-train 'a b'"),
    ],
)
def test_a_command_is_told_without_the_folders_of_its_machine(argv: list[str], text: str) -> None:
    assert command_text(argv) == text


def test_a_sweep_without_a_finished_run_still_compares() -> None:
    comparison = report.compare(sweep_of([Fake("1-1-1", 0, 0.9, failure="no memory")]))
    assert comparison.variants["n"].tolist() == [0]
    assert summary(comparison)[1] == "No run finished with an accuracy, so there is nothing to compare."


def test_validation_accuracy_stands_in_where_the_test_split_was_not_touched(mixed: SweepRecord) -> None:
    runs = tuple(
        replace(run, metrics={key: value for key, value in run.metrics.items() if not key.startswith("test/")})
        for run in mixed.runs
    )
    comparison = report.compare(replace(mixed, runs=runs))
    assert comparison.metric == "final/val_acc"
    assert summary(comparison)[1].startswith("Highest mean validation accuracy: strides=1-1-1")


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_number_is_cut_on_a_terminal_and_what_does_not_fit_is_named(width: int) -> None:
    comparison = report.compare(sweep_of(grid()))
    found, dropped = variants_table(comparison, width=width)
    text, whole = as_text(found, width=width), as_text(variants_table(comparison)[0])
    assert max(map(len, text.splitlines())) <= width
    assert set(re.findall(r"[-+]?[\d,]+\.\d+", text)) <= set(re.findall(r"[-+]?[\d,]+\.\d+", whole))
    assert bool(dropped) == (width == 80)
    assert (
        dropped
        == ["variant", "n", "test acc %", "difference", "verdict", "MMACs", "RF", "maps", "img/s", "MiB"][
            10 - len(dropped) :
        ]
    )


@pytest.mark.parametrize("width", [100, 120])
def test_the_terminal_table_fits_and_shows_names_as_text(width: int) -> None:
    runs = [replace(fake, name=f"[red]{fake.variant}[/] padding=same") for fake in grid()]
    console = Console(width=width, file=io.StringIO(), color_system=None)
    report.print_variants(report.compare(sweep_of(runs)), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in said.splitlines()) <= width
    assert "[red]strides" in said
    assert "too few seeds" in said
    assert "28>28>14>7" in said
    assert "Control check passed" in said


def test_settings_that_change_no_result_are_not_called_a_difference() -> None:
    elsewhere = {"data": {"cache_dir": "/fast", "root": "/b", "corrupt": "skip"}, "trainer": {"timeout_min": 5.0}}
    runs = [Fake("1-1-1", 0, 0.9), Fake("1-2-2", 0, 0.9, config=elsewhere)]
    assert report.compare(sweep_of(runs)).controls.caveats == ()


def test_equivalence_is_corrected_for_looks_like_the_rest() -> None:
    near = [0.001, -0.002, 0.002, 0.0, -0.001, 0.001, 0.002, -0.001]
    runs = [Fake("1-1-1", seed, 0.9) for seed in range(8)]
    runs += [Fake("1-2-2", seed, 0.9 + d) for seed, d in enumerate(near)]
    table = report.compare(sweep_of(runs)).runs
    found = differences(table, metric="test/acc", baseline="strides=1-1-1", margin=0.003, looks=3).iloc[1]
    tests = [scipy.stats.ttest_1samp(near, m, alternative=way) for m, way in ((-0.003, "greater"), (0.003, "less"))]
    assert found["p_equivalent"] == pytest.approx(3 * max(test.pvalue for test in tests))


def test_the_recipe_has_only_what_every_variant_has() -> None:
    """One trains on all images and ends early, the other has a setting that the first one's family lacks."""
    stops = {"early_stopping": 2}
    all_images = Fake("1-1-1", 0, 0.9, config={"trainer": stops})
    few = Fake("1-2-2", 0, 0.9, config={"data": {"train_size": 400}, "trainer": stops | {"threads": 3}})
    recipe = origin(sweep_of([all_images, few])).recipe
    assert "training images" not in recipe
    assert "threads a run" not in recipe
    assert recipe["early stopping patience"] == "2"
    assert origin(sweep_of([few])).recipe["training images"] == "400"


def test_runs_of_one_variant_that_differ_are_said_to_be_mixed() -> None:
    """Of two sweeps over the same strides with another learning rate, as the reader of both might forget."""
    slow, fast = (
        sweep_of([Fake(text, 0, 0.9, config={"trainer": {"lr": lr}}) for text in ("1-1-1", "1-2-2")])
        for lr in (0.1, 0.2)
    )
    again = sweep_of([Fake("1-1-1", 1, 0.9), Fake("2-2-1", 1, 0.9, config={"trainer": {"lr": 0.2}})])
    said = report.compare(select([slow, fast])).controls.caveats
    assert any(text.startswith("Runs of one variant differ in trainer.lr: ") for text in said)
    assert not any("The variants differ in" in text for text in said)
    assert "learning rate" not in origin(select([slow, fast])).recipe
    said = report.compare(select([slow, again])).controls.caveats
    assert any(text.startswith("The variants differ in trainer.lr, ") for text in said)
    assert not any("Runs of one variant differ" in text for text in said)


@pytest.mark.parametrize(
    "key", ["data.split_seed", "trainer.threads", "trainer.a_setting_of_another_version", "model.head"]
)
def test_settings_that_may_change_a_result_are(key: str) -> None:
    assert affects_results(key)


@pytest.mark.parametrize("key", ["data.cache_dir", "trainer.profiler", "tracking.uri", "paths.results_dir", "force"])
def test_settings_that_cannot_are_no_part_of_the_signature_either(key: str) -> None:
    assert not affects_results(key)
    assert key not in science(Config())


def test_a_run_of_another_sweep_has_the_names_and_the_command_of_this_one(tmp_path: Path) -> None:
    first = [Fake("1-2-2", 0, 0.8, padding="half", name="strides=1-2-2 padding=half", params={"padding": "half"})]
    record_sweep(tmp_path, first, name="padding-1", argv=["train.py", "-m", "model.padding=half,same"])
    argv = ["train.py", "-m", "model.strides=1-2-2,1-1-1"]
    runs = [Fake("1-2-2", 0, 0.8), Fake("1-1-1", 0, 0.9)]
    _, sweep = record_sweep(tmp_path, runs, name="strides-2", argv=argv, reused=["padding-1-0"])
    comparison = report.compare(sweep)
    assert comparison.names == ["strides=1-2-2", "strides=1-1-1"]
    assert comparison.runs["run_name"].tolist() == ["strides=1-2-2 seed=0", "strides=1-1-1 seed=0"]
    assert "padding" not in comparison.runs.columns
    found = origin(comparison.sweep)
    assert found.command == "python train.py -m model.strides=1-2-2,1-1-1"
    assert found.versions == {"Python": "3.11.0", "torch": "2.14.1"}


OTHER_BASELINE = (
    "strides=1-1-1, the first variant, has no finished run with test/acc; strides=1-2-2 is the baseline in its place."
)


def test_a_baseline_that_is_lost_is_said_and_what_is_missing_is_named() -> None:
    sweep = sweep_of(grid(("1-1-1", "1-2-2"), seeds=(0, 1)))
    less = report.compare(replace(sweep, runs=tuple(run for run in sweep.runs if "1-2-2" in run.name)))
    assert less.missing == ("strides=1-1-1", "strides=1-1-1")
    said = " ".join(summary(less))
    assert "2 runs of this sweep are missing from the run folders and the store (2 of strides=1-1-1)" in said
    assert OTHER_BASELINE in said
    one = report.compare(replace(sweep, runs=sweep.runs[1:]))
    assert one.missing == ("strides=1-1-1",)
    assert (one.baseline, len(one.warnings)) == ("strides=1-1-1", 1)
    assert report.compare(sweep).warnings == ()


def test_a_baseline_that_failed_is_said() -> None:
    comparison = report.compare(sweep_of([Fake("1-1-1", 0, 0.9, failure="x"), Fake("1-2-2", 0, 0.8)]))
    assert comparison.variants["difference_verdict"].tolist() == [statistics.ABSENT, statistics.BASELINE]
    assert comparison.warnings == (OTHER_BASELINE,)


@pytest.mark.parametrize("accs", [(0.99, 0.30), (0.02, 0.60), (1.0, 0.9), (0.0, 0.1)])
def test_an_interval_of_accuracies_holds_no_impossible_value(accs: tuple[float, float]) -> None:
    runs = [Fake("1-1-1", seed, acc) for seed, acc in enumerate(accs)]
    runs += [Fake("1-2-2", seed, 1 - acc) for seed, acc in enumerate(accs)]
    comparison = report.compare(sweep_of(runs))
    for row in comparison.by_variant.values():
        assert 0 <= row["test/acc_low"] <= row["test/acc_mean"] <= row["test/acc_high"] <= 1
        assert row["latency/batch1_ms_low"] >= 0
    row = comparison.by_variant["strides=1-2-2"]
    assert -1 <= row["difference_low"] <= row["difference_high"] <= 1
    half = scipy.stats.t.ppf(0.975, 1) * np.std(accs, ddof=1) / math.sqrt(2)
    assert comparison.by_variant["strides=1-1-1"]["test/acc_low"] == pytest.approx(max(0, np.mean(accs) - half))
    assert "to 100.0" in " ".join(summary(comparison)) or "0.0 to" in " ".join(summary(comparison))


def test_no_p_is_printed_where_none_below_five_per_cent_can_be_reached() -> None:
    runs = [Fake("1-1-1", seed, 0.5 + 0.01 * seed) for seed in range(3)]
    runs += [Fake("1-2-2", seed, 0.78 + 0.01 * seed + 0.02 * (seed == 1)) for seed in range(3)]
    runs += [Fake("2-2-2", seed, 0.30 + 0.01 * seed) for seed in range(3)]
    comparison = report.compare(sweep_of(runs))
    row = comparison.by_variant["strides=1-2-2"]
    assert row["difference_low"] > 0.2
    assert math.isnan(row["difference_p"])
    assert math.isnan(row["difference_p_corrected"])
    assert row["difference_verdict"] == statistics.TOO_FEW
    said = str(report.show_variants(comparison)) + report.show_variants(comparison).html + str(summary(comparison))
    assert "p=" not in said
    assert "too few seeds" in said
    figure = report.draw(comparison, "accuracy_differences")
    ticks = [label.get_text() for axes in figure.axes for child in axes.child_axes for label in child.get_yticklabels()]
    assert len(ticks) == 2
    assert not any("p=" in text for text in ticks)


def test_what_lies_within_the_margin_that_was_set_beforehand_is_called_equivalent() -> None:
    rng = np.random.default_rng(5)
    runs = [Fake("1-1-1", seed, 0.9, config={"sweep": {"margin": 1.0}}) for seed in range(8)]
    for name, shift in {"twin": 0.0005, "near": 0.008, "far": 0.03}.items():
        runs += [
            Fake("1-2-2", s, 0.9 + shift + rng.normal(0, 0.003), name=name, config=runs[0].config) for s in range(8)
        ]
    sweep = sweep_of(runs)
    comparison = report.compare(sweep)
    found = {name: row["difference_verdict"] for name, row in comparison.by_variant.items()}
    assert found == {"strides=1-1-1": "baseline", "twin": "equivalent", "near": "differs", "far": "differs"}
    assert equivalent_text(comparison) == "equivalent within \u00b11 point"
    near = comparison.by_variant["near"]
    assert verdict_text(near).startswith("differs (p=")
    assert verdict_text(near | {"difference_p_equivalent": 0.01}).startswith("differs, within the margin (p=")
    without = differences(comparison.runs, metric="test/acc", baseline="strides=1-1-1").set_index("variant")
    assert without.loc["twin", "verdict"] == statistics.UNDECIDED
    loss = report.compare(sweep, metric="test/loss")
    assert "equivalent" not in set(loss.variants["difference_verdict"]), "a margin in points is none of a loss"
    (said,) = loss.warnings
    assert said.startswith("sweep.margin, 1 point, is of test/acc: ")
    assert report.compare(sweep, metric="val/acc").margin == 1.0


def test_seeds_added_after_a_report_that_could_decide_are_said_and_paid_for() -> None:
    runs = [Fake("1-1-1", seed, 0.9) for seed in range(9)]
    runs += [Fake("2-2-2", seed, 0.89 + 0.001 * seed) for seed in range(9)]
    sweep = sweep_of(runs)
    once, again = (report.compare(sweep, earlier=earlier) for earlier in ((2, 9), (2, 7, 9)))
    p, twice = (one.by_variant["strides=2-2-2"]["difference_p_corrected"] for one in (once, again))
    assert twice == min(1, 2 * p)
    assert (once.earlier, again.earlier) == ((), (7,))
    assert "Seeds were added after a report with 7 seeds" in " ".join(summary(again))
    assert "were added" not in " ".join(summary(once))


def test_the_summary_says_what_could_have_been_found_and_what_pairing_bought() -> None:
    rng = np.random.default_rng(3)
    shared, own = rng.normal(0, 0.01, 7), rng.normal(0, 0.002, (2, 7))
    runs = [
        Fake(strides, s, 0.9 + shared[s] + own[i, s]) for i, strides in enumerate(("1-1-1", "2-2-2")) for s in range(7)
    ]
    comparison = report.compare(sweep_of(runs))
    accs = np.array([fake.acc for fake in runs]).reshape(2, 7)
    sd = np.std(accs[1] - accs[0], ddof=1)
    closing = " ".join(summary(comparison))
    size = 100 * sd * statistics.detectable(7)
    assert (
        f"With 7 seeds and this spread, a difference of {size:.1f} points would have been found 8 times in 10."
        in closing
    )
    apart = 100 * math.hypot(*accs.std(axis=1, ddof=1))
    assert f"the sd of the differences is {100 * sd:.2f} points, and {apart:.2f} were the seeds not shared" in closing
    assert f"correlation over seeds {np.corrcoef(accs)[0, 1]:.2f}" in closing
    binomial = 100 * max(math.sqrt(share * (1 - share) / 2000) for share in accs.mean(axis=1))
    error = 100 * max(image_error(comparison.mistakes, name) for name in comparison.names)
    assert error < binomial
    sample = "The 2,000 test images themselves are a sample: they give every accuracy a standard error of up to"
    assert f"{sample} {error:.2f} points, and every difference one of up to " in closing
    vars(comparison)["num_test_images"] = 9000  # of which trainer.limit_val_batches left 2,000
    assert sample in " ".join(summary(comparison))
    del vars(comparison)["num_test_images"]
    vars(comparison)["mistakes"] = None  # as where no run kept its predictions
    assert f"{sample} {binomial:.2f} points, which is in no interval" in " ".join(summary(comparison))


def test_a_sweep_is_compared_by_any_metric_that_it_measured() -> None:
    name = "latency/batch1_ms"
    runs = [replace(fake, metrics={name: 1 + fake.seed / 10 + fake.strides.count("2")}) for fake in grid()]
    sweep = sweep_of(runs)
    comparison = report.compare(sweep, metric=name)
    said = summary(comparison)
    assert said[1].startswith("Lowest mean latency of one image: strides=1-1-1, 1.05 ms (95 % interval ")
    page = report.show_variants(comparison)
    assert "latency of one image, ms" in page.html
    assert "difference, ms" in page.html
    for name in ("accuracy_vs_macs", "accuracy_differences"):
        assert report.render(report.draw(comparison, name))
    with pytest.raises(ValueError, match="metric='pie' is not measured in any finished run of this sweep; choose"):
        report.compare(sweep, metric="pie")
    with pytest.raises(ValueError, match="metric='cost/macs' is not"):
        report.compare(sweep, metric="cost/macs")


ESCAPES = "a\x1b[2Jb\u202ec"


def test_control_characters_reach_neither_terminal_nor_csv_nor_page(tmp_path: Path) -> None:
    runs = [replace(fake, name=f"{ESCAPES} {fake.strides}") for fake in grid(("1-1-1", "1-2-2"))]
    runs[-1] = replace(runs[-1], failure=ESCAPES)
    comparison = report.compare(sweep_of(runs))
    console = Console(file=io.StringIO(), width=120)
    report.print_variants(comparison, console)
    said = [
        console.file.getvalue(),  # type: ignore[attr-defined]
        write_csv(comparison.runs, tmp_path / "runs.csv").read_text(encoding="utf-8"),
        write_csv(comparison.variants, tmp_path / "variants.csv").read_text(encoding="utf-8"),
    ]
    shown = (report.show_summary, report.show_variants, report.show_controls, report.show_unfinished, report.show_speed)
    said += [text for page in (show(comparison) for show in shown) for text in (page.html, page.text)]
    said.append(report.draw(comparison, "geometry"))
    for text in said:
        assert "\x1b[2J" not in text
        assert "\u202e" not in text
    assert "a\\x1b[2Jb\\u202ec" in said[0]
