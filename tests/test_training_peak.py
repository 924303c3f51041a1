"""The peak of a training step that geometry predicts, held against what PyTorch's allocator hands out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.peak import cpu_peak, evaluation, measured, plan_of
from stridelab.config import load
from stridelab.config.grid import grid_of
from stridelab.data.load import load as load_data
from stridelab.geometry import IMAGE, Layer, LayerGeometry, LayerPlan, layer, measure, training_memory
from stridelab.geometry.step_tensors import StepTensors
from stridelab.models import CnnConfig, layer_plan
from stridelab.models.build import build
from stridelab.models.tracing.costs import SavedTensors
from stridelab.plan import layer_plan_of
from stridelab.plan.formats import FORMATS
from stridelab.plan.variant import layers_of
from stridelab.plan.variant_row import Figures, all_rows
from stridelab.text import human_bytes
from stridelab.training.fit import fit
from stridelab.training.predicted_memory import predicted_memory
from stridelab.training.recorder import Silent
from stridelab.training.settings import TrainerConfig
from stridelab.training.tasks import TASKS

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")

MIB = 2**20


def error(plan: LayerPlan, *, task: str = "classify", **trainer: Any) -> float:
    """Of the prediction, as a share of what was handed out."""
    settings = TrainerConfig(**trainer)
    peak = predicted_memory(measure(plan), settings).peak
    assert peak is not None
    return peak / measured(plan, settings, task=task) - 1


FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("cnn", {"strides": "1-2-2"}),
    ("cnn", {"strides": "2-2-1"}),
    ("cnn", {"strides": "1-2-2", "padding": "same", "padding_mode": "reflect"}),
    ("cnn", {"strides": "2-1-2", "padding_mode": "circular"}),
    ("cnn", {"strides": "2-2-1", "downsample": "blur_pool-max_pool-none"}),
    ("cnn", {"strides": "2-2-1", "downsample": "space_to_depth-avg_pool-none"}),
    ("cnn", {"strides": "1-2-2", "downsample": "blur_pool", "padding_mode": "circular"}),
    ("resnet", {"width": 16, "strides": "1-2-2"}),
    ("resnet", {"width": 16, "strides": "2-2-2"}),
    ("resnet", {"depth": 50, "width": 4, "stem_kernel": 7, "stem_stride": 2, "stem_pool": "max_pool"}),
    ("vgg", {"width": 8}),
    ("vgg", {"width": 8, "strides": "1-2-1-2-1"}),
    ("allconv", {"width": 8, "reduction": "pool"}),
    ("allconv", {"width": 8, "reduction": "conv", "strides": "1-2"}),
    ("allconv", {"width": 8, "reduction": "pool", "strides": "1-2", "base": "a", "padding_mode": "circular"}),
    ("convnext", {"width": 8}),
    ("convnext", {"width": 8, "strides": "1-2"}),
    ("torchvision", {"name": "resnet18"}),
    ("torchvision", {"name": "googlenet", "set": {"conv1.conv.stride": 1}}),
]


@pytest.mark.parametrize(("family", "settings"), FAMILIES, ids=lambda value: str(value)[:50])
def test_the_peak_of_a_step_is_predicted(family: str, settings: dict[str, Any]) -> None:
    """Five percent would do, and another processor's oneDNN may need them; on one with AVX-512 nothing is left."""
    batch_size = 4 if family == "torchvision" else 16
    assert error(plan_of(family, settings), batch_size=batch_size) == pytest.approx(0, abs=0.005)


LAST: dict[str, tuple[Layer, ...]] = {
    "convolution": (),
    "padded": (layer("conv", "last", out_channels=16, kernel_size=3, padding=((1, 0), (1, 0))),),
    "batch norm": (layer("norm", "last"),),
    "layer norm": (layer("norm", "last", function="layer"),),
    "gelu": (layer("activation", "last", function="gelu"),),
    "dropout": (layer("dropout", "last"),),
    "scale": (layer("multiply", "last"),),
    "max pool": (layer("max_pool", "last", kernel_size=2),),
    "average": (layer("avg_pool", "last", kernel_size=2),),
    "bins": (layer("adaptive_avg_pool", "last", output_size=(6, 6)),),
    "blur": (layer("blur_pool", "last", kernel_size=3, stride=2, padding=1),),
    "blocks": (layer("space_to_depth", "last", kernel_size=2, stride=2),),
    "sum": (layer("conv", "other", inputs=("first",), out_channels=16), layer("add", "last", inputs=("conv", "other"))),
    "join": (layer("conv", "other", inputs=("first",), out_channels=9), layer("concat", "l", inputs=("conv", "other"))),
}


@pytest.mark.parametrize("kind", LAST)
def test_a_gradient_that_has_not_the_layout_of_its_map_is_copied(kind: str) -> None:
    """That of a mean has its channels apart, where maps have them last; so has that of a flattened map."""
    for head in ("global_avg_pool", "flatten"):
        plan = LayerPlan(
            3,
            (24, 24),
            (
                layer("conv", "first", out_channels=8, kernel_size=3, padding="half"),
                layer("conv", "conv", out_channels=16, kernel_size=3, padding="half"),
                *LAST[kind],
                layer(head, "head"),
                layer("linear", "classifier", out_channels=3),
            ),
        )
        assert error(plan, batch_size=16) == pytest.approx(0, abs=0.005), head


@pytest.mark.parametrize(
    "trainer",
    [
        {"batch_size": 48},
        {"accumulate": 3},
        {"ema": 0.99},
        {"optimizer": "adamw"},
        {"momentum": 0.0},
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"label_smoothing": 0.1},
    ],
    ids=str,
)
def test_the_peak_follows_the_trainer(trainer: dict[str, Any]) -> None:
    assert error(plan_of("cnn", {"strides": "1-2-2"}), **({"batch_size": 16} | trainer)) == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
@pytest.mark.parametrize("family", ["resnet", "allconv"])
def test_branches_and_pools_in_other_precisions(family: str, precision: str) -> None:
    assert error(plan_of(family, {"width": 8}), batch_size=16, precision=precision) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_where_parameters_are_most_of_it(optimizer: str) -> None:
    plan = plan_of("cnn", {"strides": "2-2-2", "channels": (64, 128, 256)})
    memory = predicted_memory(measure(plan), TrainerConfig(batch_size=2, optimizer=optimizer))
    assert memory.parameters
    assert memory.activations
    assert memory.parameters > 3 * memory.activations
    assert error(plan, batch_size=2, optimizer=optimizer) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("task", ["segment", "locate"])
def test_the_loss_of_maps_counts(task: str, precision: str) -> None:
    for settings in ({"strides": "2-2-2"}, {"strides": 1, "channels": (16,)}):
        plan = TASKS[task].head(plan_of("cnn", settings), 10)
        assert error(plan, task=task, batch_size=16, precision=precision) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("family", ["cnn", "resnet", "allconv"])
def test_a_single_image_has_a_kernel_of_its_own(family: str) -> None:
    assert error(plan_of(family, {}), batch_size=1) == pytest.approx(0, abs=0.005)


def test_a_circular_pad_has_no_layout_to_lose_where_channels_are_first() -> None:
    plan = plan_of("cnn", {"strides": 1, "channels": (3,), "padding_mode": "circular"})
    for last in (False, True):
        assert error(plan, batch_size=16, precision="64-true", channels_last=last) == pytest.approx(0, abs=0.005), last


def test_groups_of_float64_are_joined() -> None:
    plan = plan_of("cnn", {"strides": (3, 2), "downsample": ("blur_pool", "stride"), "channels": (32, 16)})
    assert error(plan, batch_size=4, precision="64-true") == pytest.approx(0, abs=0.005)


def test_gradients_that_meet_at_branches() -> None:
    """One map is read by three layers; a sum hands its gradient on as it is, a concatenation in pieces."""
    plan = LayerPlan(
        3,
        (24, 24),
        (
            layer("conv", "conv1", out_channels=16, kernel_size=3, padding="half", bias=True),
            layer("activation", "relu1"),
            layer("conv", "left", out_channels=16, kernel_size=3, padding="half"),
            layer("max_pool", "right", inputs=("relu1",), kernel_size=3, stride=1, padding=1),
            layer("add", "add", inputs=("left", "right", "relu1")),
            layer("conv", "narrow", inputs=("add",), out_channels=8, kernel_size=3, padding="half"),
            layer("concat", "concat", inputs=("narrow", "add", "relu1")),
            layer("norm", "norm"),
            layer("activation", "gelu", function="gelu"),
            layer("global_avg_pool", "pool"),
            layer("linear", "classifier", out_channels=3, bias=True),
        ),
    )
    for batch_size in (4, 16):
        assert error(plan, batch_size=batch_size) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("family", "settings"), FAMILIES[:17], ids=lambda value: str(value)[:50])
def test_the_peak_of_an_evaluation_is_predicted(family: str, settings: dict[str, Any]) -> None:
    plan = plan_of(family, settings)
    found = measured(plan, TrainerConfig(batch_size=32), run=evaluation)
    memory = training_memory(measure(plan), batch_size=1, evaluated=32)
    assert memory.evaluation.size == pytest.approx(found, rel=0.02)


@contextmanager
def mixed_precision_of_a_gpu() -> Iterator[None]:
    """torch.autocast would switch itself off where there is none."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.autocast_increment_nesting()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()  # type: ignore[no-untyped-call]
        torch.clear_autocast_cache()  # type: ignore[no-untyped-call]
        torch.set_autocast_enabled("cuda", False)


def kept_on_a_gpu(plan: LayerPlan, *, precision: str) -> int:
    """Bytes that autograd keeps of 4 images, on tensors of a GPU that have a shape but no numbers."""
    with FakeTensorMode(), torch.device("cuda"):
        network = build(plan)
        saved = SavedTensors([*network.parameters(), *network.buffers()])
        with saved.watch(), nullcontext() if precision == "32-true" else mixed_precision_of_a_gpu():
            network(torch.zeros(4, plan.input_channels, *plan.input_size))
        return saved.total_bytes


DROPOUT = LayerPlan(
    1,
    (28, 28),
    (
        layer("conv", "conv", out_channels=8, kernel_size=3, padding="half"),
        layer("dropout", "dropout"),
        layer("activation", "silu", function="silu"),
        layer("global_avg_pool", "pool"),
        layer("linear", "classifier", out_channels=3),
    ),
)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_what_the_kernels_of_a_gpu_keep(precision: str) -> None:
    """A dropout a mask of bytes; in mixed precision smaller numbers and weights, and float32 where a norm over the
    channels or a weight of each channel wants them. Biases are cast, but not kept."""
    for plan in (DROPOUT, *(plan_of(*one) for one in FAMILIES[:17])):
        tensors = StepTensors(measure(plan), batch_size=4, precision=precision, device="cuda")
        assert all(map(tensors.follows, tensors.layers))
        images_kept = IMAGE in {name for one in tensors.layers for name in tensors.kept_maps(one)}
        kept = sum(tensors.kept.values()) + images_kept * tensors.map_bytes(IMAGE)
        kept += sum(map(tensors.cast_weights_bytes, tensors.layers))
        found = kept_on_a_gpu(plan, precision=precision)
        assert kept == (found if precision == "32-true" else pytest.approx(found, rel=0.005))


def conv_plan() -> tuple[LayerGeometry, ...]:
    """A convolution of 1 to 8 maps of 10x10, a ReLU, and a mean."""
    layers = (
        layer("conv", "conv", inputs=(IMAGE,), out_channels=8, kernel_size=3, padding="half"),
        layer("activation", "relu"),
        layer("global_avg_pool", "pool"),
        layer("linear", "linear", out_channels=2),
    )
    return measure(LayerPlan(1, (10, 10), layers))


def test_the_peak_by_hand() -> None:
    """On a GPU, whose blocks are of 512 bytes: with 100 images, in the backward pass of the ReLU, whose result is kept
    (in the memory of the convolution's), with the gradients of its result and of what it reads."""
    memory = training_memory(conv_plan(), batch_size=100, device="cuda")
    assert (memory.moment.layer, memory.moment.phase) == ("relu", "backward")
    images, maps, labels, outputs, pooled = 100 * 100 * 4, 100 * 8 * 100 * 4, 100 * 8, 100 * 2 * 4, 100 * 8 * 4
    weights, classifier = 8 * 9 * 4, 2 * 8 * 4
    blocks = [images, *3 * [maps], labels, outputs, *2 * [weights], *3 * [classifier], 8]  # 8: the loss
    assert memory.peak == sum(-(-block // 512) * 512 for block in blocks)
    assert pooled < maps  # which linear has kept, and its backward pass has freed


def test_each_part_of_the_peak_is_as_large_as_it_should_be() -> None:
    """By differences: a second state, a mean network, further images."""
    layers = conv_plan()
    first = training_memory(layers, batch_size=64, optimizer="sgd").peak
    assert first is not None
    for more, size in (
        ({"optimizer": "adam"}, 2 * 4 * (72 + 16)),
        ({"optimizer": "sgd", "averaged": True}, 4 * (72 + 16)),
        ({"optimizer": "sgd", "steps_at_once": 3}, 2 * 64 * (4 * 100 + 8 + 4 * 2)),
    ):
        peak = training_memory(layers, batch_size=64, **more).peak  # type: ignore[arg-type]
        assert peak == first + size, more


def test_what_is_not_known_has_a_lower_bound_and_a_reason() -> None:
    unseen = layer("opaque", "mystery", output_size=(5, 6), out_channels=7)
    plan = LayerPlan(3, (12, 12), (layer("conv", "conv", out_channels=4, kernel_size=3), unseen))
    memory = training_memory(measure(plan), batch_size=8)
    assert memory.peak is None
    assert memory.unknown == "what the backward pass of mystery holds is not known"
    assert memory.peak_at_least >= 8 * 4 * (3 * 12 * 12 + 4 * 10 * 10)
    layers = measure(plan_of("convnext", {"width": 8}))
    assert training_memory(layers, batch_size=8, precision="bf16-mixed").peak is None
    whole = training_memory(layers, batch_size=8)
    compiled = training_memory(layers, batch_size=8, compiled=True)
    assert compiled.peak is None
    assert whole.peak is not None
    assert whole.parameters is not None
    assert 2 * whole.parameters < compiled.peak_at_least < whole.peak
    planar = training_memory(layers, batch_size=8, channels_last=False)
    assert planar.unknown == "convolutions of maps that are not channels_last work on copies of oneDNN's own"
    assert not planar.evaluation_is_known
    assert training_memory(layers, batch_size=8, compiled=True).evaluation_is_known
    assert training_memory(layers, batch_size=8, channels_last=False, device="cuda").peak is not None


def test_the_layout_behind_a_circular_pad_of_one_channel_and_1x1_filters_is_not_known() -> None:
    """Neither says that channels are last, so that PyTorch has them first from there on."""
    settings = {"kernel_sizes": 1, "padding": 2, "padding_mode": "circular", "channels": (8,), "strides": 2}
    for channels, known in ((1, False), (3, True)):
        plan = layer_plan(CnnConfig(**settings), input_channels=channels, input_size=(20, 20), num_classes=3)
        memory, found = predicted_memory(measure(plan), TrainerConfig()), measured(plan, TrainerConfig())
        assert memory.peak == (pytest.approx(found, rel=0.005) if known else None)
        assert memory.peak_at_least <= 1.005 * found


def test_nothing_is_kept_for_a_map_that_nobody_reads() -> None:
    layers = (
        layer("conv", "conv", out_channels=8, kernel_size=3, padding="half"),
        layer("norm", "unread"),
        layer("global_avg_pool", "pool", inputs=("conv",)),
        layer("linear", "classifier", out_channels=3),
    )
    for accumulate in (1, 2):
        assert error(LayerPlan(3, (24, 24), layers), batch_size=16, accumulate=accumulate) == pytest.approx(0, abs=0.01)


def test_a_lower_bound_is_one() -> None:
    plan = plan_of("convnext", {"width": 8})
    for trainer in (TrainerConfig(batch_size=16, precision="bf16-mixed"), TrainerConfig(channels_last=False)):
        assert predicted_memory(measure(plan), trainer).peak_at_least < measured(plan, trainer)


@pytest.mark.parametrize(
    ("strides", "tensors", "handed_out"), [("1-1-1", 274.5, 274.5), ("1-2-2", 50.1, 62.9), ("2-2-1", 22.4, 22.5)]
)
def test_what_an_h100_was_seen_to_hand_out(strides: str, tensors: float, handed_out: float) -> None:
    """Measured once, with PyTorch 2.11, at 256 images; what cuDNN takes is told apart, and was fitted to the second."""
    plan = layer_plan(CnnConfig(strides=strides), input_channels=1, input_size=(28, 28), num_classes=10)
    memory = training_memory(measure(plan), batch_size=256, device="cuda")
    assert memory.moment.size / MIB == pytest.approx(tensors, abs=0.1)
    assert memory.with_workspaces.size / MIB == pytest.approx(handed_out, rel=0.01)


def test_a_recorded_step_has_images_and_gradients_of_its_own() -> None:
    layers = conv_plan()
    eager, recorded = (training_memory(layers, batch_size=64, device="cuda", recorded=one) for one in (False, True))
    assert recorded.moment.size - eager.moment.size == 64 * 400 + 512 + 512 + 2 * 512


def planned(name: str, *arguments: str) -> str:
    out = io.StringIO()
    FORMATS[name](all_rows(grid_of(arguments)), out)
    return out.getvalue()


def test_the_plan_shows_the_peak_at_the_trainer_s_settings() -> None:
    keys = ["model.strides=1-2-2", "trainer.batch_size=32,64", "trainer.limit_train_batches=3"]  # one step at once
    plan = layer_plan(CnnConfig(strides="1-2-2"), input_channels=1, input_size=(28, 28), num_classes=10)
    rows = csv.DictReader(io.StringIO(planned("csv", *keys)))
    for entry, row, batch_size in zip(json.loads(planned("json", *keys)), rows, (32, 64), strict=True):
        memory = entry["totals"]["memory"]
        assert memory["peak"] == int(row["peak_memory_bytes"]) == measured(plan, TrainerConfig(batch_size=batch_size))
        assert (memory["peak_layer"], memory["peak_pass"]) == ("norm1", "backward")
        assert f"  {human_bytes(memory['peak'])}  " in planned("table", *keys)
    assert "Training memory: 12.7 MiB, in the backward pass of norm1." in planned("table", *keys[:1], keys[2])
    unknown = planned("table", *keys[:1], "trainer.compile=true")
    assert "Training memory: at least 1.74 MiB, as a compiled step holds what its compiler chooses." in unknown
    assert "With the workspaces of cuDNN, up to" in planned("markdown", *keys[:1], "trainer.accelerator=gpu")


def test_the_plan_says_where_evaluation_takes_more_than_training() -> None:
    (few,), (many,) = (json.loads(planned("json", f"trainer.batch_size={size}")) for size in (16, 256))
    assert few["totals"]["memory"]["peak"] < few["totals"]["memory"]["evaluation"]
    said = f"takes more, of at most 500 images a pass: up to {human_bytes(few['totals']['memory']['evaluation'])}"
    assert said in planned("table", "trainer.batch_size=16,32")
    assert said in planned("markdown", "trainer.batch_size=16")
    assert many["totals"]["memory"]["peak"] > many["totals"]["memory"]["evaluation"]
    assert "evaluation" not in planned("table", "trainer.batch_size=256")


def test_an_evaluation_that_is_not_known_is_at_least_what_is() -> None:
    keys = ["trainer.batch_size=16", "trainer.channels_last=false"]
    memory = json.loads(planned("json", *keys))[0]["totals"]["memory"]
    assert memory["peak"] is memory["evaluation"] is None
    (row,) = csv.DictReader(io.StringIO(planned("csv", *keys)))
    assert row["evaluation_memory_bytes"] == ""
    assert "images a pass: at least " in planned("table", *keys)


@pytest.mark.parametrize("batch_size", [32, 256])
def test_a_whole_run_peaks_where_training_or_evaluation_does(batch_size: int, tmp_path: Path) -> None:
    """Lightning, the metrics and the feature maps included; of 32 images it is the evaluation."""
    words = ["data.train_size=512", "data.val_size=300", "trainer.max_epochs=1", "trainer.limit_val_batches=1"]
    config = load([*words, f"trainer.batch_size={batch_size}"])
    data, plan, row = load_data(config.data), layer_plan_of(config), Figures(config, layers_of(config))
    run = cpu_peak(lambda device: fit(plan, data, config.trainer, seed=0, recorder=Silent(tmp_path)))
    assert row.memory.peak
    assert (row.memory.evaluation.size > row.memory.peak) == (batch_size == 32)
    assert max(row.memory.peak, row.memory.evaluation.size) == pytest.approx(run, rel=0.05)


def test_several_steps_at_once_hold_their_images() -> None:
    one, several = (
        json.loads(planned("json", f"trainer.limit_train_batches={limit}"))[0]["totals"]["memory"]["peak"]
        for limit in (3, 1.0)
    )
    at_once, rest = divmod(several - one, 64 * (28 * 28 * 4 + 8 + 10 * 4))
    assert (at_once, rest) == (7, 0)


def test_options_of_the_peak_are_refused_with_their_choices() -> None:
    with pytest.raises(ValueError, match="precision='16' is not known; choose one of 32-true, bf16-mixed"):
        training_memory([], batch_size=1, precision="16")
    with pytest.raises(ValueError, match="device='mps' is not known; choose one of cpu, cuda"):
        training_memory([], batch_size=1, device="mps")


def test_measuring_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    measured(plan_of("cnn", {"channels": (2,), "strides": 2}), TrainerConfig(batch_size=2, threads=before + 1))
    assert torch.get_num_threads() == before
