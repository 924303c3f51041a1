"""The measurement phase: who takes turns with whom, what the figures are made of, and whose runs they end up in."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from stridelab import names
from stridelab.benchmark import cpu_load, session
from stridelab.benchmark.cpu_load import Load, Moment
from stridelab.benchmark.interleave import take_turns
from stridelab.benchmark.process import Lost, WorkerProcess
from stridelab.benchmark.record import setup
from stridelab.benchmark.session import is_measured
from stridelab.benchmark.timing import Session, Timing, VariantTimings
from stridelab.benchmark.worker import Worker
from stridelab.benchmark.workloads import WORKLOADS, Effort, Subject, Workload
from stridelab.cli.benchmark import benchmark, main
from stridelab.cli.probe import probe
from stridelab.cli.run_details import delete_run
from stridelab.cli.runs import sync
from stridelab.cli.train import start
from stridelab.config import expand, load
from stridelab.models.build import build
from stridelab.plan import layer_plan_of
from stridelab.system.processes import usable_cores
from stridelab.tracking.find import SweepRecord, find_sweep
from stridelab.tracking.journal import JOURNAL, read
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.run import amend
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.status import read_status
from stridelab.tracking.store import resolve_store
from stridelab.training.randomness import initialise, weights_digest

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

IPS = "images/s"
TINY = Effort(rounds=2, block_s=0.002, warm_up_s=0.005, idle_s=0.05)
"""Only shows that it works."""
SMALL = ("model.channels=[4,8]", "data.train_size=200", "data.val_size=100", "trainer.max_epochs=1")
ALONE = Load(0.0, 2)


def subject(strides: str = "2-2", *overrides: str) -> Subject:
    config = load([*SMALL, f"model.strides={strides}", *overrides])
    return Subject(f"strides={strides}", layer_plan_of(config), config.trainer, config.seed)


def timing(seconds: Sequence[Sequence[float]], batch: int = 256) -> Timing:
    return Timing(batch, [list(passes) for passes in seconds])


def session_of(measured: VariantTimings, *, before: Load = ALONE, during: Load = ALONE) -> Session:
    return Session({measured.name: measured}, before, during)


def test_figures_are_of_the_rounds_and_the_percentile_of_all_passes() -> None:
    seconds = np.random.default_rng(0).gamma(9, 0.001, (15, 20))
    found = timing(seconds.tolist()).metrics("forward_batch256")
    medians = np.median(seconds, axis=1)
    lower, upper = np.percentile(medians, [25, 75])
    assert found["benchmark/forward_batch256_ms"] == pytest.approx(1000 * np.median(medians))
    assert found["benchmark/forward_batch256_iqr_ms"] == pytest.approx(1000 * (upper - lower))
    assert found["benchmark/forward_batch256_p99_ms"] == pytest.approx(1000 * np.percentile(seconds, 99))
    assert found["benchmark/forward_batch256_images_per_s"] == pytest.approx(np.median(256 / medians))
    speeds = np.percentile(256 / medians, [25, 75])
    assert found["benchmark/forward_batch256_iqr_images_per_s"] == pytest.approx(speeds[1] - speeds[0])


@pytest.mark.parametrize(("rounds", "given"), [(9, False), (10, True)])
def test_a_percentile_of_few_passes_is_not_given(*, rounds: int, given: bool) -> None:
    measured = VariantTimings("a", threads=1, timings={WORKLOADS[0]: timing(rounds * [10 * [0.001]], batch=1)})
    assert ("benchmark/forward_batch1_p99_ms" in measured.metrics()) == given
    assert "benchmark/forward_batch1_images_per_s" not in measured.metrics()


@pytest.mark.parametrize(
    ("slow", "before", "during", "mark"),
    [
        (1.00, 0.0, 0.0, "trusted"),
        (1.09, 0.0, 0.2, "trusted"),
        (1.12, 0.0, 0.0, "untrusted: the rounds spread over 11 % of the median in forward_batch256 (more than 10 %)"),
        (1.00, 0.5, 0.0, "untrusted: the machine was busy: others used 0.5 of 2 cores just before"),
        (1.00, 0.0, 1.4, "untrusted: the machine was busy: others used 1.4 of 2 cores while it was measured"),
        (1.00, None, 0.0, "untrusted: this system does not tell how busy it was"),
    ],
)
def test_figures_are_trusted_when_they_are_steady_and_nothing_else_ran(
    slow: float, before: float | None, during: float, mark: str
) -> None:
    rounds = [[0.01], [0.01], [0.01], [0.01 * (1 + slow) / 2], [0.01 * slow], [0.01 * slow], [0.01 * slow]]
    measured = VariantTimings("a", threads=1, timings={WORKLOADS[1]: timing(rounds)})
    assert session_of(measured, before=Load(before, 2), during=Load(during, 2)).mark("a") == mark


def test_few_rounds_and_lost_processes_are_not_trusted() -> None:
    few = VariantTimings("a", threads=1, timings={WORKLOADS[1]: timing(4 * [[0.01]])})
    assert session_of(few).mark("a") == "untrusted: 4 rounds are too few"
    lost = VariantTimings("a", threads=1, lost="its process ended with exit code -9")
    assert session_of(lost).mark("a") == "untrusted: its process ended with exit code -9"
    assert lost.metrics() == {"benchmark/num_rounds": 0.0}


def test_what_others_use_is_all_work_but_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat, ticks = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(cpu_load, "STAT", stat)
    monkeypatch.setattr(cpu_load, "monotonic", lambda: now)
    user, nice, system, idle, waiting, steal, guest = 100, 10, 20, 5000, 300, 7, 50
    stat.write_text(f"cpu  {user} {nice} {system} {idle} {waiting} 0 0 {steal} {guest} 0\ncpu0 1 2 3\n")
    now = 10.0
    first = Moment.now(own_s=1.0)
    assert first.busy_s == (user + nice + system + steal) / ticks
    user, idle, steal, guest = user + 3 * ticks, idle + 9 * ticks, steal + ticks, guest + ticks
    stat.write_text(f"cpu  {user} {nice} {system} {idle} {waiting} 0 0 {steal} {guest} 0\n")
    now = 12.0
    assert first.until(Moment.now(own_s=2.5)).cores == pytest.approx((4 - 1.5) / 2)
    for text in ("", "intr 1 2 3\n", "cpu  one\n", "cpu  1 2\n"):
        stat.write_text(text)
        assert first.until(Moment.now(own_s=2.5)).cores is None


def test_variants_take_turns_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, str, Any]] = []
    before = WorkerProcess.call

    def call(self: WorkerProcess, method: str, *arguments: Any, **named: Any) -> Any:
        calls.append((self.process.pid or 0, method, arguments))
        return before(self, method, *arguments, **named)

    monkeypatch.setattr(WorkerProcess, "call", call)
    subjects = [subject("2-2"), subject("4-2"), subject("2-4")]
    session = take_turns(subjects, TINY)
    pids = list(dict.fromkeys(pid for pid, _, _ in calls))
    assert len(pids) == 3
    assert os.getpid() not in pids
    blocks = [(pid, arguments[0]) for pid, method, arguments in calls if method == "block"]
    assert blocks == TINY.rounds * [(pid, workload) for workload in WORKLOADS for pid in pids]
    assert calls.index((pids[2], "prepare", (WORKLOADS[-1],))) < calls.index((pids[0], "block", (WORKLOADS[0],)))
    for measured in session.variants.values():
        assert set(measured.timings) == set(WORKLOADS)
        assert all(len(timing.rounds) == TINY.rounds for timing in measured.timings.values())
        assert all(second > 0 for timing in measured.timings.values() for some in timing.rounds for second in some)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_variant_whose_process_dies_is_left_out_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    before, killed = WorkerProcess.call, []

    def call(self: WorkerProcess, method: str, *arguments: Any, **named: Any) -> Any:
        if method == "block" and not killed:
            killed.append(self.process.pid)
            os.kill(self.process.pid or 0, signal.SIGKILL)
        return before(self, method, *arguments, **named)

    monkeypatch.setattr(WorkerProcess, "call", call)
    session = take_turns([subject("2-2"), subject("4-2")], TINY)
    assert session.variants["strides=2-2"].lost == "its process ended with exit code -9"
    assert session.variants["strides=2-2"].metrics() == {"benchmark/num_rounds": 0.0}
    assert session.variants["strides=4-2"].metrics()["benchmark/num_rounds"] == TINY.rounds


def test_a_worker_ends_when_nobody_is_left_to_ask_it() -> None:
    process = WorkerProcess(subject())
    assert process.call("device_name") == ""
    process.pipe.close()
    process.process.join(20)
    assert process.process.exitcode == 0


def test_what_goes_wrong_over_there_is_said_here() -> None:
    process = WorkerProcess(subject())
    try:
        with pytest.raises(Lost, match="AttributeError: 'Worker' object has no attribute 'dance'"):
            process.call("dance")
    finally:
        process.end()


def test_a_worker_is_the_network_before_training_and_stays_so() -> None:
    threads = torch.get_num_threads()
    try:
        one = subject("2-2", "trainer.threads=2")
        worker = Worker(one)
        assert torch.get_num_threads() == 2
        network = build(one.plan)
        initialise(network, seed=one.seed)
        assert weights_digest(worker.network) == weights_digest(network)
        for workload in WORKLOADS:
            worker.prepare(workload, warm_up_s=0.0, block_s=0.0)
            assert len(worker.block(workload, passes=3)) == 3
        parameters = dict(worker.network.named_parameters())
        assert all(torch.equal(value, parameters[name]) for name, value in network.named_parameters())
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in parameters.values())
        assert worker.network.training
        worker.block(Workload("forward", 1), passes=1)
        assert not worker.network.training
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-mixed", torch.bfloat16)])
def test_a_worker_computes_in_the_precision_of_training(precision: str, dtype: torch.dtype) -> None:
    try:
        worker = Worker(subject("2-2", f"trainer.precision={precision}"))
        seen = []
        worker.network.get_submodule("conv2").register_forward_hook(lambda m, i, output: seen.append(output.dtype))
        for workload in WORKLOADS:
            worker.prepare(workload, warm_up_s=0.0, block_s=0.0)
        assert set(seen) == {dtype}
    finally:
        torch.use_deterministic_algorithms(False)


def test_what_a_network_cannot_do_is_left_out_with_its_reason() -> None:
    session = take_turns([subject("7-4")], TINY)  # a map of 1x1: one image has no variance
    found = session.variants["strides=7-4"]
    assert "more than 1 value per channel" in found.refused[Workload("training", 1)]
    assert not any("training_batch1_" in name for name in found.metrics())
    assert "benchmark/training_batch256_images_per_s" in found.metrics()


def sweep(folder: Path, *overrides: str) -> int:
    arguments = [*SMALL, f"paths.results_dir={folder}", "sweep.report=false", *overrides]
    return start([job.config for job in expand(arguments) if job.config], multirun=True)


def record_of(folder: Path) -> SweepRecord:
    return find_sweep(resolve_store(TrackingConfig(), results_dir=folder))


def figures(run: RunRecord) -> Mapping[str, float]:
    return {name: value for name, value in run.metrics.items() if name.startswith("benchmark/")}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants, two seeds, and what `trainer.benchmark=true` adds to them."""
    folder = tmp_path_factory.mktemp("measured") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "Effort", lambda: TINY)
        assert sweep(folder, "model.strides=2-2,7-4", "seed=0,1", "trainer.benchmark=true") == 0
    return folder


def test_every_seed_of_a_variant_gets_its_figures_and_stays_finished(results: Path) -> None:
    runs = record_of(results).runs
    assert [run.status for run in runs] == 4 * ["FINISHED"]
    assert len({run.tags[names.BENCHMARK_SESSION] for run in runs}) == 1
    for first, second in (runs[:2], runs[2:]):
        assert figures(first) == figures(second)
        assert figures(first)["benchmark/num_rounds"] == TINY.rounds
        assert first.tags[names.BENCHMARK].startswith("untrusted: 2 rounds are too few")
        assert "1 thread, 32-true, channels last" in first.tags[names.BENCHMARK_SETUP]
        assert first.tags[names.RUNS_AT_ONCE] == str(min(4, usable_cores()))
        assert first.history("benchmark/forward_batch256_images_per_s") == [
            (1, figures(first)["benchmark/forward_batch256_images_per_s"])
        ]
    assert figures(runs[0]) != figures(runs[2])


def test_the_same_command_again_measures_nothing_and_makes_the_same_runs(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_size for path in results.glob(f"runs/*/{JOURNAL}")}
    monkeypatch.setattr(session, "take_turns", None)
    for measure in ("true", "false"):
        assert sweep(results, "model.strides=2-2,7-4", "seed=0,1", f"trainer.benchmark={measure}") == 0
    assert {path: path.stat().st_size for path in results.glob(f"runs/*/{JOURNAL}")} == before


def test_measuring_again_adds_one_step_and_marks_what_is_gone(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the command does it; of a variant's figures that cannot be measured this time, the last value is no number."""
    journals = sorted(results.glob(f"runs/*/{JOURNAL}"))
    with amend(journals[0].parent) as run:
        run.metrics({"benchmark/forward_batch1_old_ms": 3.0}, step=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "Effort", lambda: TINY)
        benchmark([f"sweep={record_of(results).name}", f"paths.results_dir={results}"])
    said = capsys.readouterr().out
    for journal in journals:
        steps = [one.data["step"] for one in read(journal) if "benchmark/num_rounds" in one.data.get("values", ())]
        assert steps == [1, 7]
        assert read_status(journal.parent) == ("FINISHED", "")
    metrics = [run.metrics for run in record_of(results).runs]
    assert sum(np.isnan(one.get("benchmark/forward_batch1_old_ms", 0.0)) for one in metrics) == 1
    rows = [line.split("│")[1:-1] for line in said.splitlines() if line.startswith("│")]
    cells = [[text.strip() for text in row] for row in rows]
    assert [(row[0], row[1], row[2], row[4]) for row in cells] == [
        *[
            ("strides=2-2", work, n, unit)
            for work in ("forward", "training")
            for n, unit in (("1", "ms"), ("256", IPS))
        ],
        *[("strides=7-4", "forward", "1", "ms"), ("strides=7-4", "forward", "256", IPS)],
        ("strides=7-4", "training", "256", IPS),
    ]
    assert {row[6] for row in cells[:4]} == {"1.00"}
    assert "strides=7-4: training_batch1 cannot be measured: " in said
    assert said.count(": untrusted: 2 rounds are too few") == 2


def test_a_session_that_not_all_runs_took_part_in_does_not_count(results: Path) -> None:
    config = load([])
    runs = [session.Finished("a", config, path.parent) for path in results.glob(f"runs/*/{JOURNAL}")]
    assert is_measured(runs)
    assert not is_measured([*runs, session.Finished("a", config, results)])
    assert not is_measured([session.Finished("a", config, None)])


def test_runs_that_cannot_be_recorded_in_are_said(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "Effort", lambda: TINY)
    config = load([*SMALL, "model.strides=2-2"])
    folder = next(results.glob(f"runs/*/{JOURNAL}")).parent
    before = (folder / JOURNAL).stat().st_size
    with amend(folder):  # as by another process
        runs = [session.Finished("a", config, folder), session.Finished("a", config, None)]
        session.measure_runs(runs, Console())
    said = " ".join(capsys.readouterr().out.split())
    assert "not recorded 1 of 2 runs: no folder on this machine" in said
    assert f"not recorded {folder.name}" in said
    assert (folder / JOURNAL).stat().st_size == before


def test_nothing_is_begun_where_it_could_not_be_recorded(results: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "results").mkdir()
    if subprocess.run(["mount", "--bind", results, folder], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        measuring = ((benchmark, ()), (probe, ("probe=aliasing", "sweep=latest")))
        for verb, words in (*measuring, (sync, ()), (delete_run, ("run=latest", "yes=true"))):
            with pytest.raises(ValueError, match=f"^paths.results_dir={folder} cannot be written to: Read-only file"):
                verb([f"paths.results_dir={folder}", *words])
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # the store is still open


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep=nothing"], "error: sweep=nothing is not in "),
        (["paths.results_dir=elsewhere"], "error: there is no store at "),
        (["paths.result_dir=elsewhere"], "error: "),
    ],
)
def test_a_sweep_that_is_not_there_is_one_clear_error(
    results: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(results.parent)
    with pytest.raises(SystemExit, match="1"):
        main(arguments)
    out, refusal = capsys.readouterr()
    assert refusal.startswith(said)
    assert out == ""
    assert not (results.parent / "elsewhere").exists()


def test_a_sweep_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    assert sweep(tmp_path / "r", "model.strides=2-2", "seed=0", "trainer.lr=1e9") == 1
    with pytest.raises(ValueError, match="is FAILED: none has finished; only finished runs are measured"):
        benchmark([f"paths.results_dir={tmp_path / 'r'}"])


@pytest.mark.parametrize(
    ("device", "words", "said"),
    [
        ("", [], "EPYC, 1 thread, 32-true, channels last"),
        ("NVIDIA H100", [], "NVIDIA H100, 32-true with TF32, channels last"),
        ("NVIDIA H100", ["trainer.tf32=false"], "NVIDIA H100, 32-true, channels last"),
        ("NVIDIA H100", ["trainer.precision=bf16-mixed"], "NVIDIA H100, bf16-mixed, channels last"),
        ("mps", [], "mps, 32-true, channels last"),
    ],
)
def test_what_speed_depends_on_is_told(device: str, words: list[str], said: str) -> None:
    assert setup(VariantTimings("1-2-2", threads=1, device=device), load(words).trainer, cpu="EPYC") == said


def test_ctrl_c_does_not_reach_the_warm_process_while_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: handlers.append(signal.getsignal(signal.SIGINT)))
    monkeypatch.setattr(BaseProcess, "start", lambda process: None)
    WorkerProcess(subject())
    assert handlers == [signal.SIG_IGN]
