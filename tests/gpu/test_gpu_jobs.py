"""Many runs on one GPU: how many are chosen, what one takes, and processes that train one after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from fits import ACCELERATOR, REHEARSED, needs_gpu
from injection import agenda_of, evidence, sweep, task, work_of

from stridelab.plan import examine
from stridelab.sweep.devices import gpus_of_torch
from stridelab.sweep.gpu_jobs import largest_mib, shared_process
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.sweep.task import Task
from stridelab.system.gpus import visible_gpus
from stridelab.system.memory import MIB
from stridelab.tracking.journal import JOURNAL, read

WORDS = ("model.strides=1-2-2,2-2-2", "seed=0,1", "trainer.batch_size=32", ACCELERATOR)


def pid_of(folder: Path) -> int:
    return int(next(one.data["pid"] for one in read(folder / JOURNAL) if "pid" in one.data))


@needs_gpu
def test_nvidia_smi_and_pytorch_agree_on_what_is_here(pool: LocalLauncher) -> None:
    if (found := visible_gpus()) is None:
        pytest.skip("nvidia-smi is not here, or speaks of parts of a card: PyTorch is asked instead")
    (outcome,) = pool.run([Task(gpus_of_torch, ())])
    assert outcome.reason is None
    assert [gpu.name for gpu in found] == [gpu.name for gpu in outcome.value]
    for one, other in zip(found, outcome.value, strict=True):
        assert other.free_mib <= one.free_mib <= other.free_mib + 1500, "PyTorch's own context is between the two"


def test_a_sweep_says_how_many_it_trains_at_once_and_has_the_bits_of_runs_alone(
    pool: LocalLauncher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path / "served", *WORDS, *(["sweep.jobs=2"] * REHEARSED)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert REHEARSED or " runs at once on " in said
    assert "out of memory" not in said
    works, alone = agenda_of(tmp_path / "served", *WORDS).specs, agenda_of(tmp_path / "alone", *WORDS).specs
    assert {outcome.status for outcome in pool.run([task(work) for work in alone])} == {"finished"}
    for work, other in zip(works, alone, strict=True):
        assert evidence(work.folder).digests == evidence(other.folder).digests


def test_a_second_run_in_a_process_has_the_bits_and_the_peak_of_a_first(tmp_path: Path) -> None:
    """After one of another shape."""
    works, alone = (
        [work_of(tmp_path / name, *WORDS[2:], f"model.strides={strides}") for strides in ("1-1-2", "2-2-2")]
        for name in ("shared", "alone")
    )
    shares = "alike" if REHEARSED else shared_process(works[0].config)
    assert shares
    launcher = LocalLauncher(1)
    outcomes = launcher.run([replace(task(work), shares=shares) for work in works])
    launcher.close()
    expected = launcher.run([task(work) for work in alone])
    assert pid_of(works[0].folder) == pid_of(works[1].folder), "the first left something behind"
    for work, other in zip(works, alone, strict=True):
        assert evidence(work.folder).digests == evidence(other.folder).digests
    for one, other in zip(outcomes, expected, strict=True):
        peaks = [outcome.value.metrics.get("memory/peak_device_mib", 0.0) for outcome in (one, other)]
        assert peaks[0] == pytest.approx(peaks[1], abs=1.0)


@needs_gpu
@pytest.mark.parametrize(
    "words", [(), ("model.channels=[64,128,256]", "model.strides=1-1-2", "trainer.batch_size=512")]
)
def test_a_run_takes_no_more_of_a_card_than_predicted(words: tuple[str, ...], tmp_path: Path) -> None:
    """By what is free meanwhile, the context and the libraries included."""
    usual = ("trainer=gpu", "model.channels=[16,32,64]", "model.strides=1-2-2", "data.train_size=null")
    work = work_of(tmp_path, *usual, *words)
    predicted = largest_mib([examine(work.config, keys=())])
    assert predicted is not None
    before, done = free_mib(), Event()
    least = [before]

    def watch() -> None:
        while not done.wait(0.01):
            least.append(min(least[-1], free_mib()))

    thread = Thread(target=watch)
    thread.start()
    (outcome,) = LocalLauncher(1).run([task(work)])
    done.set()
    thread.join()
    taken = before - least[-1]
    print(f"predicted {predicted:.0f} MiB, taken {taken:.0f} MiB")
    assert outcome.status == "finished"
    assert predicted / 3 < taken <= predicted


def free_mib() -> float:
    return torch.cuda.mem_get_info()[0] / MIB
