"""Whole runs and sweeps on one GPU: several at once, killed and continued, reported, reproduced, measured."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from fits import ACCELERATOR, REHEARSED, needs_gpu
from injection import attempt, complete, evidence, sweep, work_of

from stridelab.benchmark.interleave import take_turns
from stridelab.benchmark.workloads import Effort, Subject
from stridelab.cli.reproduce import main as reproduce
from stridelab.config import load
from stridelab.plan import layer_plan_of
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.tracking.status import read_tag

RECORDED = ("trainer.batch_size=32", ACCELERATOR)
"""10 steps an epoch: the fifth is the first that is replayed."""


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_killed_and_continued_is_undisturbed_to_the_bit(precision: str, pool: LocalLauncher, tmp_path: Path) -> None:
    words = (*RECORDED, f"trainer.precision={precision}")
    undisturbed = complete(pool, work_of(tmp_path / "one", *words))
    work = work_of(tmp_path / "other", *words)
    assert attempt(pool, work, fault="step:17:kill").status == "killed"
    assert complete(pool, work) == undisturbed
    assert read_tag(work.folder, "stridelab.step") == ("" if REHEARSED else "CUDA graph")


PROBES = ("shift_consistency", "equivariance_error", "aliasing", "effective_receptive_field", "saturation")
SWEEP = ("model.strides=1-2-2,2-2-2", "seed=0,1,2,3", *RECORDED)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, at_once: int) -> Path:
    """The results of eight runs, `at_once` of them at the same time."""
    results = tmp_path_factory.mktemp("swept")
    more = ("sweep.report=true", f"probes=[{','.join(PROBES)}]", f"sweep.jobs={at_once}")
    assert sweep(results, *SWEEP, *more) == 0
    return results


def folders(results: Path) -> dict[str, Path]:
    found = [path.parent for path in results.glob("runs/*/result.json")]
    return {json.loads((folder / "run.json").read_text())["name"]: folder for folder in found}


def test_runs_at_once_have_the_bits_of_runs_alone(swept: Path, tmp_path: Path) -> None:
    assert sweep(tmp_path, *SWEEP, "sweep.jobs=1") == 0
    alone, together = folders(tmp_path), folders(swept)
    assert len(alone) == 8
    assert alone.keys() == together.keys()
    for name, folder in alone.items():
        ours, theirs = evidence(folder), evidence(together[name])
        assert ours.digests == theirs.digests, name
        assert ours.maps == theirs.maps, name


@needs_gpu
def test_seeds_that_train_together_have_the_bits_of_runs_alone(swept: Path, tmp_path: Path) -> None:
    """Four seeds in each of two processes, and their steps in one graph."""
    assert sweep(tmp_path, *SWEEP, "sweep.seeds_together=4") == 0
    apart, together = folders(swept), folders(tmp_path)
    assert len(together) == 8
    for name, folder in together.items():
        ours, theirs = evidence(folder), evidence(apart[name])
        assert ours.digests == theirs.digests, name
        assert ours.maps == theirs.maps, name
        assert read_tag(folder, "stridelab.step") == "CUDA graph", name


def test_a_sweep_is_reported_and_says_what_it_ran_on(swept: Path) -> None:
    assert list(swept.glob("reports/*/*.html"))
    folder = folders(swept)["1-2-2 s0"]
    probed = {name for name, _ in evidence(folder).points if name.startswith("probe/")}
    assert probed >= {f"probe/{name}" for name in PROBES}
    facts = json.loads((folder / "torch.json").read_text())
    assert facts["tf32"] is True
    assert facts["deterministic"] is True
    if not REHEARSED:
        (gpu, *_) = json.loads((folder / "provenance.json").read_text())["machine"]["gpus"]
        assert gpu.startswith(f"{facts['device']}, "), "PyTorch and the driver call it the same"
        assert facts["cudnn"] > 90000


def test_a_run_is_reproduced_to_the_bit_and_that_was_expected(
    swept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = json.loads((folders(swept)["1-2-2 s2"] / "run.json").read_text())["signature"]
    monkeypatch.setattr("sys.argv", ["reproduce.py", f"paths.results_dir={swept}", f"run={name}"])
    with suppress(SystemExit):  # the output says more than its code
        reproduce()
    said = " ".join(capsys.readouterr().out.split())
    assert "Expected: bit-equal." in said
    assert "identical: the final weights and all" in said, said


def test_speed_is_measured_in_turns() -> None:
    subjects = []
    for strides in ("1-2-2", "2-2-2"):
        config = load([f"model.strides={strides}", ACCELERATOR])
        subjects.append(Subject(strides, layer_plan_of(config), config.trainer, config.seed, config.task))
    session = take_turns(subjects, Effort(rounds=2, block_s=0.002, warm_up_s=0.005, idle_s=0.05))
    for name in ("1-2-2", "2-2-2"):
        found = session.variants[name]
        assert not found.lost
        assert not found.refused
        assert bool(found.device) is not REHEARSED
        assert all(seconds > 0 for timing in found.timings.values() for seconds in timing.seconds)
