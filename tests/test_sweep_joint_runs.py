"""Seeds that train together in one process. Their steps are done by the processor here, and by a GPU as one graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stridelab import names
from stridelab.config import load
from stridelab.run import RunSpec, run
from stridelab.sweep.joint_runs import JointListener, groups_of, run_groups
from stridelab.sweep.launchers.in_process import InProcessLauncher
from stridelab.sweep.preflight import refuse_seeds_together
from stridelab.sweep.task import WAIT, Listener, Outcome
from stridelab.tracking.run import RunIdentity
from stridelab.tracking.status import DIVERGED, FINISHED, KILLED, RESULT, read_result, read_tag
from stridelab.training import cuda_graph, step
from stridelab.training.memory import TOGETHER

TINY = ("data.train_size=150", "data.val_size=50", "trainer.max_epochs=2", "model.channels=[3]", "model.strides=2")


def spec_of(folder: Path, seed: int, *words: str) -> RunSpec:
    config = load([*TINY, f"seed={seed}", "trainer.feature_map_images=0", "trainer.batch_size=16", *words])
    return RunSpec(config, RunIdentity(f"{seed:016x}", f"s{seed}"), folder / str(seed), {})


@pytest.fixture
def joint_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(work: object) -> None:
        raise RuntimeError("no GPU is here")

    monkeypatch.setattr(step, "is_on_gpu", lambda network: True)
    monkeypatch.setattr(cuda_graph, "recorded", refused)
    monkeypatch.setattr(cuda_graph, "watched", lambda work: (work(), ""))


@pytest.mark.usefixtures("joint_on_cpu")
def test_each_seed_has_the_bits_and_the_record_of_training_alone(tmp_path: Path) -> None:
    """Also one that was interrupted and goes on, beside one that diverges."""
    alone = [run(spec_of(tmp_path / "alone", seed), progress=lambda event: None) for seed in range(3)]
    specs = [spec_of(tmp_path / "together", seed) for seed in range(3)]
    run(specs[1], progress=lambda event: None)
    (specs[1].folder / RESULT).unlink()
    (specs[1].folder / "checkpoints/epoch-0002.ckpt").unlink()
    specs.append(spec_of(tmp_path / "together", 3, "trainer.lr=1e30"))
    heard: list[tuple[int, Mapping[str, Any]]] = []
    listener = Listener(event=lambda index, event: heard.append((index, event)))
    outcomes = run_groups([[3, 1, 0], [2]], specs, InProcessLauncher(), listener)
    assert [one.status for one in outcomes] == [FINISHED, FINISHED, FINISHED, DIVERGED]
    for one, other, spec in zip(outcomes, alone, specs, strict=False):
        assert one.value.weights_digest == other.weights_digest
        assert one.value.metrics["test/loss"] == other.metrics["test/loss"]
        assert read_result(spec.folder) is not None
    assert (1, {"said": "goes on after epoch 1"}) in heard
    assert {index for index, event in heard if event.get("epoch") == 2} == {0, 1, 2}
    assert read_tag(specs[0].folder, names.PEAK_RSS) == TOGETHER.format(3)
    assert read_tag(specs[0].folder, names.STEP) == "no CUDA graph: it cannot be recorded: no GPU is here"
    assert "see" in (specs[0].folder / "output.txt").read_text()


def test_only_runs_that_differ_by_their_seed_train_together(tmp_path: Path) -> None:
    specs = [spec_of(tmp_path, seed, f"model.strides={stride}") for stride in (1, 2) for seed in range(3)]
    assert groups_of(specs, 2) == [[0, 1], [2], [3, 4], [5]]
    assert groups_of([specs[4], *specs[:2]], 8) == [[0], [1, 2]]


def test_what_takes_the_process_takes_all_of_its_runs() -> None:
    ended: list[tuple[int, str]] = []
    joint = JointListener([[0, 2], [1]], Listener(end=lambda index, outcome: ended.append((index, outcome.status))))
    killed, done = Outcome(reason="killed by SIGKILL", died=True, status=KILLED), Outcome(value=[Outcome(value=7)])
    joint.end(0, killed)
    joint.end(1, done)
    assert ended == [(0, KILLED), (2, KILLED), (1, FINISHED)]
    assert joint.of_runs([killed, done]) == [killed, Outcome(value=7), killed]


def test_a_group_waits_while_another_process_trains_one_of_its_runs() -> None:
    known: dict[int, Outcome | None] = {0: None, 1: WAIT, 2: Outcome(value=7)}
    joint = JointListener([[0, 1], [0, 2], [2]], Listener(look=known.__getitem__))
    assert [joint.look(group) for group in range(3)] == [WAIT, None, Outcome(value=[Outcome(value=7)])]


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ([], "trainer.accelerator=gpu"),
        (["trainer=gpu", "trainer.cuda_graph=false"], "trainer.cuda_graph=true"),
        (["trainer=gpu", "trainer.compile=true", "trainer.devices=2"], "trainer.compile=false, trainer.devices=1"),
        (["trainer=gpu", "model=torchvision", "model.name=mobilenet_v3_small"], "a network without dropout"),
    ],
)
def test_what_cannot_be_a_branch_of_one_graph_is_refused_before_anything_is_created(
    words: list[str], missing: str
) -> None:
    with pytest.raises(ValueError, match=rf"^sweep.seeds_together=4: .* needs {missing}; or give sweep.seeds_tog"):
        refuse_seeds_together(load([*words, "sweep.seeds_together=4"]))
    refuse_seeds_together(load(["trainer=gpu", "sweep.seeds_together=4"]))
    refuse_seeds_together(load(words))
