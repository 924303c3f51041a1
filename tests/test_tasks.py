"""Tasks: where heads say things are, what is counted, and runs of each on the canvas."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stridelab.cli.train import start
from stridelab.config import load
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data
from stridelab.geometry import measure, totals
from stridelab.models.build import build
from stridelab.models.head_modules import Resample, SoftArgmax, bilinear
from stridelab.plan import examine, layer_plan_of
from stridelab.training.memory import measured_saved_bytes
from stridelab.training.tasks import TASKS, localisation, segmentation

SMALL = (
    "data=canvas", "model.channels=[4,8]", "model.strides=2-2", "data.train_size=100", "data.val_size=50",
    "trainer.max_epochs=1", "launcher=in_process", "sweep.report=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def canvas() -> Data:
    return load_data(load(["data=canvas"]).data)


def test_the_canvas_is_the_same_for_everybody_and_agrees_with_itself(canvas: Data) -> None:
    split = canvas.test
    digest = hashlib.sha256(split.images.permute(0, 2, 3, 1).contiguous().numpy().tobytes()).hexdigest()
    assert digest[:12] == "c2de11f27d2b"
    masks, boxes, labels = split.targets["mask"].numpy(), split.targets["box"].numpy(), split.labels.numpy()
    assert 0.18 < (labels == 10).mean() < 0.22
    for mask, box, label in zip(masks[:300], boxes[:300], labels[:300], strict=True):
        rows, columns = np.nonzero(mask != 10)
        assert len(rows) == 0 if label == 10 else set(mask[rows, columns]) == {label}
        expected = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1] if len(rows) else [0] * 4
        assert box.tolist() == expected
    assert max(boxes[:, 2:].max(), boxes[:, :2].max()) <= 64


@pytest.mark.parametrize("padding", ["half", "same", "valid"])
@pytest.mark.parametrize("strides", ["1-2", "2-2", "3-1"])
def test_a_single_high_score_is_found_at_the_centre_of_its_field(strides: str, padding: str) -> None:
    """The oracle: the middle of the pixels that the unit's score depends on, in the middle of the image."""
    config = load(["task=locate", *SMALL, f"model.strides={strides}", f"model.padding={padding}"])
    network = build(layer_plan_of(config)).double().eval()
    images = torch.randn(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.weight.data.fill_(0.1)
        if isinstance(part, torch.nn.ReLU):
            part.forward = lambda maps: maps  # type: ignore[method-assign]
    seen: dict[str, Any] = {}
    network.get_submodule("score").register_forward_hook(lambda *given: seen.update(maps=given[2]))
    network(images)
    row, column = (size // 2 for size in seen["maps"].shape[2:])
    (gradient,) = torch.autograd.grad(seen["maps"][0, 0, row, column], images)
    touched = gradient[0, 0].nonzero().double()
    scores = torch.full_like(seen["maps"], -1e3)
    scores[0, 0, row, column] = 1e3
    place = network.get_submodule("place")(scores)[0]
    expected = (touched.amin(0) + touched.amax(0)) / 2
    torch.testing.assert_close(place[:2], expected)
    assert place[3] == pytest.approx(0, abs=1e-6), "one peak has no spread"


def test_soft_argmax_weighs_places_presence_and_spread() -> None:
    two = torch.tensor([[[[0.0, 0.0]], [[3.0, 5.0]]]])
    found = SoftArgmax(torch.tensor([7.0]), torch.tensor([10.0, 20.0]))(two)
    torch.testing.assert_close(found, torch.tensor([[7.0, 15.0, 4.0, 25.0]]))


def test_up_sampling_gives_units_at_their_centres_and_lines_between() -> None:
    across = bilinear([1.0, 5.0], count=8)
    made = Resample(bilinear([0.0], count=1), across)(torch.tensor([[[[0.0, 8.0]]]]))
    assert made.flatten().tolist() == [0, 0, 2, 4, 6, 8, 8, 8]


@pytest.mark.parametrize("task", ["locate", "segment"])
@pytest.mark.parametrize("model", ["cnn", "resnet"])
def test_geometry_knows_the_head_and_parameters_do_not_depend_on_stride(task: str, model: str) -> None:
    chosen = ["model.strides=2-2-1"] if model == "cnn" else []
    plan = layer_plan_of(load([f"task={task}", "data=canvas", f"model={model}", *chosen]))
    layers, network = measure(plan), build(plan)
    whole = totals(layers)
    assert whole.params == sum(weights.numel() for weights in network.parameters())
    saved = measured_saved_bytes(network, (8, 1, 64, 64))
    assert saved == 8 * whole.activation_bytes + sum(layer.batch_bytes for layer in layers)
    flops = torch.utils.flop_counter.FlopCounterMode(display=False)
    with flops:
        outputs = network.eval()(torch.zeros(1, 1, 64, 64))
    assert flops.get_total_flops() == 2 * whole.macs
    assert outputs.shape[1:] == ((4,) if task == "locate" else (11, 64, 64))
    assert whole.last_map is not None
    assert whole.last_map.name == "score"


def test_what_locate_counts() -> None:
    targets = torch.tensor([[1.0, 10, 20], [1, 30, 30], [0, 0, 0]])
    outputs = torch.tensor([[13.0, 24, 2, 0], [30, 30, -1, 0], [5, 5, -3, 0]])
    found = localisation.metrics(localisation.tally(outputs, targets), 3)
    assert found == {"error_px": 2.5, "presence_acc": pytest.approx(2 / 3)}
    nothing = localisation.loss(outputs[2:], targets[2:])
    assert nothing.item() == pytest.approx(np.log1p(np.exp(-3))), "no place where there is no object"


def test_what_segment_counts() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, :, 4:] = 1
    found = masks.clone()
    found[0, :, 3] = 1  # a column at the border
    found[0, 0, 0] = 1  # a pixel far inside
    outputs = torch.nn.functional.one_hot(found.long(), 2).movedim(-1, 1).float()
    counted = segmentation.metrics(segmentation.tally(outputs, masks), 1)
    assert counted["pixel_acc"] == pytest.approx(1 - 9 / 64)
    assert counted["boundary_error"] == 8 / 32, "two columns on either side"
    assert counted["inside_error"] == 1 / 32
    assert counted["miou"] == pytest.approx((23 / 32 + 32 / 41) / 2)


@pytest.mark.parametrize("distance", [1, 2, 4, 40])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (12, 7)])
def test_the_border_is_where_the_largest_class_near_is_not_the_smallest(size: tuple[int, int], distance: int) -> None:
    masks = torch.randint(0, 3, (4, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    masks[0] = 2
    expected = torch.zeros(masks.shape, dtype=torch.bool)
    for image, row, column in itertools.product(*map(range, masks.shape)):
        rows = slice(max(0, row - distance), row + distance + 1)
        columns = slice(max(0, column - distance), column + distance + 1)
        expected[image, row, column] = len(masks[image, rows, columns].unique()) > 1
    before = masks.clone()
    assert torch.equal(segmentation.near_border(masks, distance), expected)
    assert torch.equal(masks, before)


@pytest.mark.parametrize("task", ["locate", "segment"])
def test_a_run_records_its_task_s_metrics(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probes = "localisation_error" if task == "locate" else "boundary_error"
    config = load([f"task={task}", *SMALL, f"paths.results_dir={tmp_path}", f"probes=[{probes}]"])
    assert start([config], multirun=False) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert TASKS[task].measure.label in said
    text = next(tmp_path.rglob("journal.jsonl")).read_text()
    for name in (f"test/{TASKS[task].primary}", f"best/val_{TASKS[task].primary}", f"probe/{probes}"):
        assert f'"{name}"' in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=locat"], "task='locat' is not a task; choose one of classify, locate, segment"),
        (
            ["task=locate"],
            "task=locate needs the box of the object .* data=fashion_mnist_mini does not have.*data=canvas",
        ),
        (["task=segment", "data=canvas", "trainer.flip=true"], "task=segment takes no trainer.crop or trainer.flip"),
    ],
)
def test_a_task_that_cannot_be_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(overrides)


@pytest.mark.parametrize("task", ["locate", "segment"])
def test_a_network_with_its_own_classifier_reads_no_places(task: str) -> None:
    config = load([f"task={task}", "data=canvas", "model=torchvision", "model.name=resnet18"])
    said = examine(config, keys=()).error or ""
    assert said.startswith(
        f"task={task} reads the last map, and a network of model=torchvision ends with its own class"
    )
    assert said.endswith("choose one of cnn, resnet, vgg, allconv, convnext.")
