"""The main command, used as a person uses it: real processes, a real store, real images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from stridelab.cli.flags import parse
from stridelab.cli.train import train as start
from stridelab.names import in_sweep
from stridelab.tracking.find import SweepRecord, find_run, find_sweep
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import Store, connect, resolve_store

TRAIN = Path(__file__).parents[1] / "train.py"
SMALL = ["trainer.max_epochs=1", "data.train_size=300", "data.val_size=100", "model.channels=[4,4,8]"]
TIMELESS = ("train/", "val/", "test/", "final/", "best/", "cost/")


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TRAIN), *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


@dataclass(frozen=True)
class Swept:
    folder: Path
    done: subprocess.CompletedProcess[str]
    name: str
    """Of its sweep: tests run others in its folder."""

    @property
    def store(self) -> Store:
        return resolve_store(TrackingConfig(), results_dir=self.folder / "results")

    @property
    def record(self) -> SweepRecord:
        return find_sweep(self.store, self.name)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Two possible variants and an impossible one, two seeds."""
    folder = tmp_path_factory.mktemp("sweep")
    arguments = ["-m", "model.strides=[1,2,2],[2,2,1],[9,9,1]", "model.padding=valid", "seed=0,1", *SMALL]
    done = train(folder, *arguments)
    (sweep,) = (folder / "results" / "sweeps").iterdir()
    return Swept(folder, done, sweep.name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model.strid=1"], "model.strid is not a key. Did you mean model.strides?"),
        (["-m", "model.strides=9,8", "model.padding=valid"], "model.strides=8-8-8"),
    ],
)
def test_bad_input_is_refused_before_anything_is_created(arguments: list[str], said: str, tmp_path: Path) -> None:
    """As a process; tests/test_cli.py has every kind."""
    done = train(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_with_an_impossible_variant_trains_the_rest_and_says_so(swept: Swept) -> None:
    assert swept.done.returncode == 1
    assert "run 4 of 4" in swept.done.stdout
    assert "refused: layer 'conv3'" in swept.done.stdout
    assert "Traceback" not in swept.done.stdout + swept.done.stderr
    statuses = [(run.name, run.status) for run in swept.record.runs]
    assert statuses == [
        (f"{strides} s{seed}", status)
        for strides, status in (("1-2-2", "FINISHED"), ("2-2-1", "FINISHED"), ("9-9-1", "FAILED"))
        for seed in (0, 1)
    ]


def test_params_are_what_varies_as_a_word_and_by_layer_and_what_a_table_of_sweeps_needs(swept: Swept) -> None:
    params = dict(swept.record.runs[2].params)
    assert params.pop("channels")
    assert int(params.pop("epochs")) >= 1
    assert params == {"strides": "2-2-1", "stride_1": "2", "stride_2": "2", "stride_3": "1", "seed": "0"}


def test_what_is_measured_once_has_one_step_so_that_mlflow_draws_bars(swept: Swept) -> None:
    run = swept.record.runs[0]
    for key in ("test/acc", "final/val_acc", "best/val_acc", "latency/batch1_ms", "cost/macs", "time/fit_s"):
        assert [step for step, _ in run.history(key)] == [0]
    assert next(step for step, _ in run.history("val/acc")) == 1


def test_the_sweeps_own_run_has_the_verdict_the_table_and_a_prepared_view(swept: Swept) -> None:
    run = swept.record.run
    assert run.tags["mlflow.note.content"].startswith("**")
    assert "| 1-2-2 |" in run.tags["mlflow.note.content"]
    done = [one for one in swept.record.runs if one.status == "FINISHED"]
    assert run.metrics["sweep/finished_runs"] == len(done)
    means = {
        v: [one.metrics["test/acc"] for one in done if one.tags["stridelab.label"] == v] for v in ("1-2-2", "2-2-1")
    }
    assert run.metrics["best/test_acc"] == pytest.approx(max(sum(means[v]) / len(means[v]) for v in means))
    wished = {"metric": "test/acc", "epochs": "val/acc", "params": ["strides"], "smallest_first": False}
    assert json.loads(run.tags["stridelab.view"]) == wished


def test_a_run_keeps_what_the_house_promises(swept: Swept) -> None:
    run = swept.record.runs[0]
    names = {
        "train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc", "final/val_acc", "best/val_acc",
        "throughput/train_images_per_s", "throughput/eval_images_per_s", "latency/batch1_ms", "memory/peak_rss_mib",
        "memory/saved_activations_mib", "memory/params_mib", "cost/macs", "cost/params", "cost/effective_stride",
        "cost/receptive_field_px", "time/fit_s", "time/total_s",
    }  # fmt: skip
    assert names <= set(run.metrics)
    for tag in ("signature", "sweep", "role", "variant", "init_digest", "batch_order_digest", "data_digest"):
        assert run.tags[f"stridelab.{tag}"]
    assert run.tags["mlflow.parentRunId"] == swept.record.run_id
    assert run.tags[in_sweep(swept.record.name, swept.record.tags["stridelab.uid"])] == "1-2-2"
    config = json.loads(run.artifact("config.json").read_text())
    assert config["model"]["strides"] == [[1, 1], [2, 2], [2, 2]]
    layers = json.loads(run.artifact("geometry.json").read_text())
    assert [layer["output_size"] for layer in layers if layer["kind"] == "conv"] == [[26, 26], [12, 12], [5, 5]]
    assert run.metrics["cost/macs"] == sum(layer["macs"] or 0 for layer in layers)
    assert run.artifact("feature_maps/feature_maps.npz").exists()
    assert "torch==" in run.artifact("requirements.txt").read_text()


def test_the_comparison_is_written_and_attached(swept: Swept) -> None:
    folder = swept.folder / "results" / "reports" / swept.record.name
    for name in ("comparison.ipynb", "comparison.html", "explorer.html", "runs.csv", "variants.csv"):
        assert (folder / name).stat().st_size > 0
        assert swept.record.run.artifact(name).read_bytes() == (folder / name).read_bytes()
    assert list((folder / "figures").glob("*.png"))
    assert "9-9-1" in (folder / "comparison.html").read_text()


def test_the_same_command_again_trains_nothing(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {run.run_id for run in swept.record.runs}
    arguments = ["-m", "model.strides=[1,2,2],[2,2,1]", "model.padding=valid", "seed=0,1", *SMALL]
    assert here(swept.folder, monkeypatch, *arguments, "sweep.report=false") == 0
    assert "started" not in capsys.readouterr().out
    assert {run.run_id for run in swept.record.runs} <= before


def test_what_another_sweep_has_trained_stands_in_the_new_sweeps_view(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = swept.record
    arguments = ["-m", "model.strides=[2,2,1]", "model.padding=valid", "seed=0,1", *SMALL, "sweep.report=false"]
    assert here(swept.folder, monkeypatch, *arguments) == 0
    assert "started" not in capsys.readouterr().out
    record = find_sweep(swept.store)
    assert record.name != first.name
    assert {run.run_id for run in record.runs} < {run.run_id for run in first.runs}
    tag = in_sweep(record.name, record.tags["stridelab.uid"])
    found = connect(swept.store).search_runs([record.run.experiment_id], f"tags.`{tag}` LIKE '%'")
    assert {run.info.run_id for run in found} == {run.run_id for run in record.runs}
    assert [run.data.tags["mlflow.parentRunId"] for run in found] == [first.run_id] * 2


def test_a_run_elsewhere_is_bit_identical(swept: Swept, tmp_path: Path) -> None:
    done = train(tmp_path, "model.strides=1-2-2", "model.padding=valid", "seed=1", *SMALL)
    assert done.returncode == 0, done.stderr
    alone = find_run(resolve_store(TrackingConfig(), results_dir=tmp_path / "results"))
    twin = next(run for run in swept.record.runs if run.name == "1-2-2 s1")
    assert alone.tags["stridelab.weights_digest"] == twin.tags["stridelab.weights_digest"]
    assert alone.tags["stridelab.signature"] == twin.tags["stridelab.signature"]
    for name, value in twin.metrics.items():
        if name.startswith(TIMELESS):
            assert alone.metrics[name] == value, name
    assert "mlflow.parentRunId" not in alone.tags


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.faults), signal.SIGTERM])
def test_an_interruption_is_recorded_and_the_same_command_goes_on(number: int, tmp_path: Path) -> None:
    arguments = ["model.strides=1-1-1", *SMALL, "trainer.max_epochs=400"]
    with subprocess.Popen(
        [sys.executable, str(TRAIN), *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, number, signal.SIG_DFL),
    ) as process:  # fmt: skip
        wait_for(tmp_path / "results" / "runs", "*/checkpoints/*.ckpt")
        process.send_signal(number)
        out, _ = process.communicate()
    assert process.returncode == 128 + number
    assert "The same command continues" in out
    results = tmp_path / "results"
    assert find_run(resolve_store(TrackingConfig(), results_dir=results), results=results).status == "KILLED"


def test_a_reader_that_leaves_interrupts_a_sweep(tmp_path: Path) -> None:
    """`| head`: noticed when the first run ends."""
    arguments = [sys.executable, str(TRAIN), "-m", *SMALL, "trainer.max_epochs=1,1000"]
    with subprocess.Popen(
        arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        while "run 2 of 2" not in process.stdout.readline():
            pass
        process.stdout.close()
        assert process.wait(300) == 141
        assert "Traceback" not in process.stderr.read()
    results = tmp_path / "results"
    runs = find_sweep(resolve_store(TrackingConfig(), results_dir=results), "latest").runs
    assert sorted(run.status for run in runs) == ["FINISHED", "KILLED"]


def test_a_sweep_needs_no_open_streams(tmp_path: Path) -> None:
    """As a scheduler may start it: its files and pipes are not numbered 0 to 2, which children print to."""
    closed = ["sh", "-c", '"$0" "$@" <&- >&- 2>&-', sys.executable, str(TRAIN)]
    done = subprocess.run([*closed, "-m", "model.strides=1-2-2,2-2-1", *SMALL], cwd=tmp_path, timeout=300)
    assert done.returncode == 0
    assert list(tmp_path.glob("results/reports/*/comparison.html"))


def wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 600
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.1)


def here(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command in this process, whose PyTorch is loaded."""
    monkeypatch.chdir(folder)
    return start(parse(arguments))


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
def test_a_debug_run_stays_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here(tmp_path, monkeypatch, "debug=fdr") == 0
    assert "test accuracy" in capsys.readouterr().out
    assert list(tmp_path.glob("results/runs/*/result.json"))
    assert not list(tmp_path.glob("results/runs/*/output.txt")), "a child process would have sent its output there"


def test_the_console_command_works_from_any_folder(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("stridelab")
    done = subprocess.run([command, "train", "--cfg", "job"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "max_epochs" in done.stdout
    assert os.listdir(tmp_path) == []  # noqa: PTH208
