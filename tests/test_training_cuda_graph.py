"""The recorded step, as far as it can be held without a GPU: what it reads and writes, and when it is refused. Whether
CUDA records and replays it is for tests/gpu."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from time import sleep
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from stridelab.config import load
from stridelab.models.build import build
from stridelab.models.families import FAMILIES
from stridelab.models.user_family import USER_FAMILIES
from stridelab.names import CUDA_GRAPH
from stridelab.plan import layer_plan_of
from stridelab.training import cuda_graph, step
from stridelab.training.average import average_of
from stridelab.training.cuda_graph import WARM_UP_STEPS, StepGraph, Tensors, Work, first_cause
from stridelab.training.joint_steps import JointSteps, Seat, refuse_noise
from stridelab.training.randomness import initialise
from stridelab.training.step import TrainingStep
from stridelab.training.tasks import TASKS, segmentation

SIZE = 4


class SameMemory:
    """Stands for `torch.cuda.CUDAGraph`: replayed, it does the work again and leaves what it makes, gradients too,
    in the memory of before. As with CUDA, recording computes nothing that stays, and replaying changes no `.grad`."""

    def __init__(self, work: Callable[[], Tensors], steps: Sequence[TrainingStep]) -> None:
        state = [tensor for one in steps for tensor in one.state()]
        before, noise = [tensor.detach().clone() for tensor in state], torch.get_rng_state()
        self.parameters = [parameter for one in steps for parameter in one.network.parameters()]
        self.work, self.made = work, work()
        self.gradients = [parameter.grad for parameter in self.parameters]
        cuda_graph.restore(state, before)
        torch.set_rng_state(noise)

    def replay(self) -> None:
        named = [parameter.grad for parameter in self.parameters]
        made = self.work()
        found = [*made, *(parameter.grad for parameter in self.parameters)]
        for old, new in zip([*self.made, *self.gradients], found, strict=True):
            assert old is not None
            assert new is not None
            old.copy_(new)
        for parameter, gradient in zip(self.parameters, named, strict=True):
            parameter.grad = gradient


@pytest.fixture
def graphs_on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[TrainingStep]:
    """Steps do on the processor what they do on a GPU; those appended are asked for their state."""
    steps: list[TrainingStep] = []

    def recorded(work: Callable[[], Tensors]) -> tuple[SameMemory, Tensors]:
        graph = SameMemory(work, [one for one in steps if one.seat is not None] or steps[-1:])
        return graph, graph.made

    monkeypatch.setattr(step, "is_on_gpu", lambda network: True)
    monkeypatch.setattr(cuda_graph, "recorded", recorded)
    monkeypatch.setattr(cuda_graph, "watched", lambda work: (work(), ""))
    monkeypatch.setattr(torch.cuda, "get_rng_state", torch.get_rng_state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", torch.set_rng_state)
    return steps


def trained(
    steps: list[TrainingStep], *words: str, batches: Sequence[int], seed: int = 0, seat: Seat | None = None
) -> tuple[list[Tensor], list[str]]:
    """Losses, outputs and all state after steps on `batches` of so many images, and what was told."""
    config = load(["model.channels=[3,4]", "model.strides=1-2", f"trainer.batch_size={SIZE}", *words])
    plan, told = layer_plan_of(config), list[str]()
    network = build(plan) if seat else nn.Sequential(build(plan), nn.Dropout(0.2))
    initialise(network, seed=seed)
    average = average_of(network, config.trainer)
    one = TrainingStep(network, config.trainer, num_steps=10, average=average, tell=told.append, seat=seat)
    steps.append(one)
    generator, found = torch.Generator().manual_seed(seed), list[Tensor]()
    torch.manual_seed(2)
    for count in batches:
        images = torch.rand(count, plan.input_channels, *plan.input_size, generator=generator)
        found += one(images, torch.randint(10, (count,), generator=generator))
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    averages = [] if average is None else list(average.state_dict().values())
    return [*found, *one.state(), *gradients, *averages], told


@pytest.mark.parametrize(
    "words",
    [[], ["trainer.optimizer=adamw", "trainer.ema=0.9"], ["trainer.accumulate=2"], ["trainer.precision=bf16-mixed"],
     ["trainer.schedule=cosine", "trainer.warmup=2", "trainer.momentum=0"]],
)  # fmt: skip
def test_a_replayed_step_is_the_step_to_the_bit(graphs_on_cpu: list[TrainingStep], words: list[str]) -> None:
    """Learning rate, noise, a smaller batch in between and the gradients that are left included."""
    whole = 2 * SIZE if "trainer.accumulate=2" in words else SIZE
    batches = [*[whole] * (WARM_UP_STEPS + 3), whole - 1, whole, whole]
    replayed, told = trained(graphs_on_cpu, *words, batches=batches)
    stepped, untold = trained(graphs_on_cpu, *words, "trainer.cuda_graph=false", batches=batches)
    assert told == [CUDA_GRAPH]
    assert untold == []
    assert len(replayed) == len(stepped)
    assert all(map(torch.equal, replayed, stepped))


def test_a_batch_of_another_size_has_a_graph_of_its_own(graphs_on_cpu: list[TrainingStep]) -> None:
    """The measurement of speed asks one step for batches of several sizes."""
    _, told = trained(graphs_on_cpu, batches=[SIZE, 2 * SIZE] * (WARM_UP_STEPS + 1))
    assert told == [CUDA_GRAPH, CUDA_GRAPH]


def test_seeds_that_step_together_are_those_that_step_alone(graphs_on_cpu: list[TrainingStep]) -> None:
    """To the bit; the third has fewer batches, and the others wait for it no more."""
    lengths = {0: [SIZE] * 9 + [2], 1: [SIZE] * 9 + [2], 2: [SIZE] * (WARM_UP_STEPS + 2)}
    joint = JointSteps(len(lengths))

    def one(seed: int) -> tuple[list[Tensor], list[str]]:
        seat = joint.seats[seed]
        try:
            return trained(graphs_on_cpu, batches=lengths[seed], seed=seed, seat=seat)
        finally:
            graphs_on_cpu[:] = [one for one in graphs_on_cpu if one.seat is not seat]
            seat.leave()
            seat.go()

    with ThreadPoolExecutor(len(lengths)) as pool:
        together = list(pool.map(one, lengths))
    told = [[CUDA_GRAPH, CUDA_GRAPH], [CUDA_GRAPH, CUDA_GRAPH], [CUDA_GRAPH]]  # anew, when the third had left
    assert [said for _, said in together] == told
    for seed, (found, _) in enumerate(together):
        alone, _ = trained(
            [], "trainer.cuda_graph=false", batches=lengths[seed], seed=seed, seat=JointSteps(1).seats[0]
        )
        assert len(found) == len(alone)
        assert all(map(torch.equal, found, alone))


def test_what_ends_the_step_of_all_ends_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    joint = JointSteps(2)
    monkeypatch.setattr(joint, "_graph_of", lambda *given: 1 / 0)

    def one(number: int) -> str:
        with pytest.raises(ZeroDivisionError) as raised:
            joint.seats[number].step(TrainingStep(nn.Linear(1, 1), load([]).trainer, num_steps=9), *torch.rand(2, 1, 1))
        return str(raised.value)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == ["division by zero"] * 2


def test_what_comes_before_and_after_training_is_done_by_one_after_the_other() -> None:
    """One fails, one has nothing left to train."""
    joint, alone, going = JointSteps(4), Lock(), list[int]()

    @contextmanager
    def undisturbed() -> Iterator[None]:
        assert alone.acquire(blocking=False), "two at the same time"
        sleep(0.01)
        yield
        alone.release()

    def one(number: int) -> None:
        seat = joint.seats[number]
        seat.enter()
        try:
            with undisturbed():
                stepper = TrainingStep(nn.Linear(1, 10), load([]).trainer, num_steps=9)
            if number == 3:
                return
            if number != 2:
                seat.step(stepper, torch.rand(4, 1), torch.zeros(4, dtype=torch.long))
            seat.leave()
            assert not joint.training
            with undisturbed():
                going.append(number)
        finally:
            seat.go()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [None] * 4
    assert sorted(going) == [0, 1, 2]


def test_seeds_whose_layers_draw_noise_do_not_train_together() -> None:
    refuse_noise(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()))
    with pytest.raises(ValueError, match=r"draws noise \(Dropout2d\).*sweep.seeds_together=1"):
        refuse_noise(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout2d()))


def test_what_cannot_be_recorded_trains_as_it_is_and_says_why(
    graphs_on_cpu: list[TrainingStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [SIZE] * (WARM_UP_STEPS + 3)
    stepped, _ = trained(graphs_on_cpu, "trainer.cuda_graph=false", batches=batches)

    def failing(work: Work) -> Any:
        error = RuntimeError("operation failed due to a previous error during capture")
        error.__context__ = RuntimeError(
            "operation not permitted when stream is capturing\nCUDA kernel errors might be"
        )
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(cuda_graph, "recorded", failing)
        found, told = trained(graphs_on_cpu, batches=batches)
    assert told == ["no CUDA graph: it cannot be recorded: operation not permitted when stream is capturing"]
    assert all(map(torch.equal, found, stepped))

    with monkeypatch.context() as patch:
        patch.setattr(cuda_graph, "watched", lambda work: (work(), "layers.py:7"))
        found, told = trained(graphs_on_cpu, batches=batches)
    assert told == ["no CUDA graph: the step waits for the GPU (layers.py:7)"]
    assert all(map(torch.equal, found, stepped))


@pytest.mark.parametrize("spoiled", ["weights", "outputs", "noise"])
def test_a_replay_with_other_bits_is_undone_and_refused(
    spoiled: str, graphs_on_cpu: list[TrainingStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [SIZE] * (WARM_UP_STEPS + 3)
    stepped, _ = trained(graphs_on_cpu, "trainer.cuda_graph=false", batches=batches)

    sound = SameMemory.replay

    def replay(self: SameMemory) -> None:
        if spoiled == "noise":
            torch.rand(1)
        sound(self)
        if spoiled == "outputs":
            self.made[1].mul_(1.0001)
        if spoiled == "weights":
            graphs_on_cpu[-1].state()[0].detach().view(-1)[0].add_(1e-6)

    monkeypatch.setattr(SameMemory, "replay", replay)
    found, told = trained(graphs_on_cpu, batches=batches)
    assert told == ["no CUDA graph: its replay is not equal to the step to the bit"]
    assert all(map(torch.equal, found, stepped))


def test_a_loss_that_is_no_number_is_equal_to_itself() -> None:
    lost = torch.tensor([float("nan"), 1.0])
    assert cuda_graph.equal_bits(lost, lost.clone())
    assert not cuda_graph.equal_bits(torch.tensor(0.0), torch.tensor(-0.0))


def test_no_graph_where_several_devices_or_a_compiler_share_the_step(graphs_on_cpu: list[TrainingStep]) -> None:
    one = TrainingStep(nn.Linear(2, 2), load([]).trainer, num_steps=9)
    whole = torch.empty(64, 2)
    assert isinstance(one._way_of(whole), StepGraph)
    assert one._way_of(torch.empty(63, 2)) == one.work
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stridelab.training.ranks.size", lambda: 2)
        assert one._way_of(whole) == one.work
    one.config = load(["trainer.compile=true"]).trainer
    assert one._way_of(whole) == one.work


def test_the_schedule_and_checkpoints_see_a_number_for_the_rate(graphs_on_cpu: list[TrainingStep]) -> None:
    trained(graphs_on_cpu, "trainer.optimizer=adamw", batches=[SIZE] * (WARM_UP_STEPS + 2))
    groups = graphs_on_cpu[-1].optimizer.state_dict()["param_groups"]
    assert all(type(group["lr"]) is float and group["capturable"] is False for group in groups)


def test_the_first_cause_is_told() -> None:
    assert first_cause(RuntimeError("one\ntwo")) == "one"


class HostReads(TorchDispatchMode):
    """Operations whose result the processor needs to go on, for which it would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
            self.found.add(str(func))
        return func(*args, **(kwargs or {}))


def own(*words: str, batch_size: int = SIZE) -> Any:
    config = load([f"trainer.batch_size={batch_size}", *words])
    return config, layer_plan_of(config), TASKS[config.task]


NETWORKS = [(f"model={name}",) for name in FAMILIES if name not in {"timm", *USER_FAMILIES}]
NETWORKS += [(f"task={name}", "data=canvas") for name in ("locate", "segment")]


@pytest.mark.parametrize("words", NETWORKS, ids=lambda words: words[0])
@pytest.mark.parametrize("more", [(), ("trainer.optimizer=adamw", "trainer.accumulate=2")], ids=["sgd", "adamw"])
def test_no_step_of_ours_waits_for_the_gpu(words: tuple[str, ...], more: tuple[str, ...], monkeypatch: Any) -> None:
    monkeypatch.setattr(step, "is_on_gpu", lambda network: True)
    config, plan, task = own(*words, *more, "trainer.cuda_graph=false")
    network = build(plan)
    one = TrainingStep(network, config.trainer, num_steps=10, loss=task.loss)
    images = torch.rand(config.trainer.images_a_step, plan.input_channels, *plan.input_size)
    one(images, task.example(network(images)))
    with HostReads() as reads:
        one(images, task.example(network(images)))
    assert not reads.found


@pytest.mark.parametrize("words", NETWORKS, ids=lambda words: words[0])
def test_forward_pass_and_loss_stay_on_the_gpu(words: tuple[str, ...]) -> None:
    """Tensors without content: what would bring one from the processor into the pass is refused."""
    _, plan, task = own(*words)
    with FakeTensorMode(), torch.device("cuda"):
        network = build(plan)
        outputs = network(torch.rand(SIZE, plan.input_channels, *plan.input_size))
        targets = task.example(outputs).to("cuda")
        assert task.loss(outputs, targets, label_smoothing=0.1).is_cuda
        tallied = task.tally(outputs.detach(), targets)
        assert all(value.is_cuda for value in tallied.values()), "nor does counting wait for the GPU"


def test_pixels_have_one_cross_entropy_on_every_device() -> None:
    """On CUDA it is made of operations that are deterministic there."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(5, (3, 7, 6), generator=generator, dtype=torch.uint8)
    logits = torch.randn(3, 5, 7, 6, generator=generator, dtype=torch.float64)
    for smoothing in (0.0, 0.1):
        found, gradients = [], []
        for loss in (segmentation.loss, segmentation.pixel_cross_entropy):
            leaf = logits.clone().requires_grad_()
            found.append(loss(leaf, masks, label_smoothing=smoothing))
            found[-1].backward()
            gradients.append(leaf.grad)
        torch.testing.assert_close(*found, rtol=1e-14, atol=0)
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-16)
    with FakeTensorMode(), torch.device("cuda"):
        loss = segmentation.loss(torch.rand(2, 5, 7, 6, requires_grad=True), torch.zeros(2, 7, 6))
    names, left = set[str](), [loss.grad_fn]
    while left:
        if (one := left.pop()) is not None:
            names.add(one.name())
            left += [before for before, _ in one.next_functions]
    assert names
    assert not [name for name in names if "Nll" in name]
