"""Measures on trained networks: networks whose answer is known exactly, and values that end up in the run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stridelab import names
from stridelab.cli.probe import main
from stridelab.cli.train import start
from stridelab.config import expand, load
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data
from stridelab.models.build import build
from stridelab.plan import layer_plan_of
from stridelab.probes import catalog
from stridelab.probes.catalog import PROBES, probe_of, recorded
from stridelab.probes.input_size import input_size_robustness, resized
from stridelab.probes.shift import MAX_SHIFT_PX, drawn, shift_consistency, shifted
from stridelab.probes.trained import Trained
from stridelab.tracking.find import find_run
from stridelab.tracking.journal import JOURNAL
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import resolve_store
from stridelab.training.randomness import initialise, random_bits
from stridelab.training.settings import TrainerConfig

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
CPU = torch.device("cpu")
DOUBLE = TrainerConfig(precision="64-true", channels_last=False)
SMALL = (
    "model.channels=[4,8]",
    "model.strides=2-2",
    "data.train_size=200",
    "data.val_size=100",
    "trainer.max_epochs=1",
)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load(["data.train_size=200", "data.val_size=100"]).data)


def trained(data: Data, network: nn.Module, *, seed: int = 0) -> Trained:
    return Trained(network.double().eval(), data, seed, DOUBLE, CPU)


def untrained(strides: str, **settings: str) -> nn.Module:
    """Whose weights are spread so that it tells classes apart."""
    chosen = [f"model.{key}={value}" for key, value in settings.items()]
    network = build(layer_plan_of(load([f"model.strides={strides}", "model.channels=[8,8,8]", *chosen])))
    initialise(network, seed=3)
    return network


class Corner(nn.Module):
    """Class 1 where the top left pixel is brighter than the middle of the range, else 0."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images[:, 0, 0, 0]
        return torch.stack([-bright, bright], 1)


def test_a_circular_network_of_stride_one_is_perfectly_consistent_under_circular_shifts(data: Data) -> None:
    one = trained(data, untrained("1-1-1", padding_mode="circular"))
    assert len(one.top1(data.test.images).unique()) > 2, "it does not answer the same to everything"
    found = shift_consistency(one)
    assert found["circular"] == 1.0
    assert found[""] < 1.0, "black comes in"


def test_a_strided_network_is_consistent_at_multiples_of_its_effective_stride_alone(data: Data) -> None:
    one = trained(data, untrained("2-2-1", padding_mode="circular"))
    images = data.test.images[:200]
    before = one.logits(images)
    for down, right in ((4, 0), (-8, 12), (4, 4)):
        moved = shifted(images, torch.full((200,), down), torch.full((200,), right), circular=True)
        torch.testing.assert_close(one.logits(moved), before)
    off = shifted(images, torch.full((200,), 1), torch.full((200,), 2), circular=True)
    assert (one.logits(off) - before).abs().max() > 1e-3
    assert shift_consistency(one)["circular"] < 1.0


def test_consistency_is_the_share_that_agrees(data: Data) -> None:
    """Counted by hand for a network that looks at one pixel."""
    found = shift_consistency(trained(data, Corner(), seed=5))
    pixels, threshold = data.test.images.numpy()[:, 0], 255 * data.test.images.float().mean() / 255
    bits = random_bits(keyed(5), len(pixels)).tolist()
    agreed = []
    for image, word in zip(pixels, bits, strict=True):
        shifts = [(((word >> at) & 0x7FFF) * 9 // 32768) - 4 for at in (0, 15, 30, 45)]
        corners = []
        for down, right in (shifts[:2], shifts[2:]):
            row, column = -down, -right  # what stands at 0, 0 after the shift
            corners.append(image[row, column] if row >= 0 and column >= 0 else 0)
        mean = data.spec.mean[0] * 255
        agreed.append((corners[0] > mean) == (corners[1] > mean))
    assert threshold > 0
    assert found[""] == np.mean(agreed)
    assert found["agrees"].tolist() == agreed


def keyed(seed: int) -> int:
    from stridelab.training.randomness import keyed_seed

    return keyed_seed(seed, "shift_consistency")


@pytest.mark.parametrize("circular", [False, True])
def test_shifts_move_each_image_by_its_own_pixels(*, circular: bool) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(1, 256, (30, 3, 7, 9), dtype=np.uint8)
    down, right = generator.integers(-6, 7, (2, 30))
    found = shifted(*map(torch.from_numpy, (images, down, right)), circular=circular).numpy()
    for image, moved, d, r in zip(images, found, down, right, strict=True):
        expected = np.roll(image, (d, r), (1, 2))
        if not circular:
            expected[:, range(d) if d > 0 else range(7 + d, 7)] = 0
            expected[:, :, range(r) if r > 0 else range(9 + r, 9)] = 0
        assert (moved == expected).all()


def test_shifts_are_uniform_and_of_the_seed_and_the_image_alone() -> None:
    many = drawn(random_bits(keyed(0), 90_000), 30)
    counts = torch.bincount(many + MAX_SHIFT_PX)
    assert len(counts) == 2 * MAX_SHIFT_PX + 1
    assert (counts - 10_000).abs().max() < 5 * math.sqrt(10_000)
    assert torch.equal(drawn(random_bits(keyed(0), 50), 30), many[:50])
    assert not torch.equal(drawn(random_bits(keyed(1), 50), 30), many[:50])


def test_sizes_are_cut_or_surrounded_in_the_middle() -> None:
    images = torch.arange(1, 37, dtype=torch.uint8).view(1, 1, 6, 6)
    assert torch.equal(resized(images, 0), images)
    assert torch.equal(resized(images, -3)[0, 0], images[0, 0, 1:4, 1:4])
    assert torch.equal(resized(images, -2)[0, 0], images[0, 0, 1:5, 1:5])
    larger = resized(images, 5)[0, 0]
    assert larger.shape == (11, 11)
    assert torch.equal(larger[2:8, 2:8], images[0, 0])
    assert larger.sum() == images.sum()


class Brightness(nn.Module):
    """Sums ten bands of brightness over all pixels: what is black adds nothing, wherever and however much of it."""

    def __init__(self, black: float) -> None:
        super().__init__()
        self.black = black

    def forward(self, images: Tensor) -> Tensor:
        light = (images - self.black).clamp_min(0)
        return torch.stack([(light.clamp_max(0.2 * band + 0.2)).sum((1, 2, 3)) / (band + 1) for band in range(10)], 1)


def test_what_does_not_see_black_is_as_good_at_every_larger_size(data: Data) -> None:
    mean, std = data.spec.mean[0], data.spec.std[0]
    found = input_size_robustness(trained(data, Brightness(-mean / std)))
    assert set(found) == {"", *(f"{size}px" for size in range(25, 34))}
    assert len({found[f"{size}px"] for size in range(28, 34)}) == 1
    assert found[""] == min(found.values())


def test_a_network_of_one_size_says_so(data: Data) -> None:
    with pytest.raises(ValueError, match="the network takes no images of 29px: "):
        input_size_robustness(trained(data, untrained("2-2-1", head="flatten")))


def test_the_longest_name_that_fits_says_whose_a_metric_is(monkeypatch: pytest.MonkeyPatch) -> None:
    longer = catalog.Probe(shift_consistency, "", "another")
    monkeypatch.setitem(PROBES, "shift_consistency_of_edges", longer)
    assert probe_of("probe/shift_consistency") is PROBES["shift_consistency"]
    assert probe_of("probe/shift_consistency_circular") is PROBES["shift_consistency"]
    assert probe_of("probe/shift_consistency_of_edges_left") is longer
    assert probe_of("probe/shift") is None
    assert probe_of("test/acc") is None


def train(results: Path, *overrides: str) -> int:
    configs = [job.config for job in expand([*SMALL, f"paths.results_dir={results}", *overrides]) if job.config]
    return start(configs, multirun=len(configs) > 1)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probed") / "results"
    assert train(folder, "seed=0,1", "probes=[shift_consistency]", "sweep.report=false") == 0
    return folder


def metrics(results: Path) -> dict[str, float]:
    run = find_run(resolve_store(TrackingConfig(), results_dir=results))
    return {name: value for name, value in run.metrics.items() if name.startswith("probe/")}


def folders(results: Path) -> list[Path]:
    return [path.parent for path in sorted(results.glob(f"runs/*/{JOURNAL}"))]


def test_a_sweep_probes_its_runs_and_a_command_adds_to_them(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in folders(results):
        assert set(recorded(folder)) == {"probe/shift_consistency", "probe/shift_consistency_circular"}
        with np.load(folder / "probes" / "shift_consistency.npz") as kept:
            assert kept["agrees"].mean() == recorded(folder)["probe/shift_consistency"][1]
    main(["probe=input_size_robustness", "sweep=latest", f"paths.results_dir={results}"])
    assert capsys.readouterr().out.count("  probe/input_size_robustness  0.") == 2
    found = metrics(results)
    assert set(found) >= {"probe/shift_consistency", "probe/input_size_robustness", "probe/input_size_robustness_25px"}
    own = find_run(resolve_store(TrackingConfig(), results_dir=results)).metrics["test/acc"]
    assert found["probe/input_size_robustness_28px"] == pytest.approx(own, abs=1e-9), "the very network that was tested"


def test_the_same_again_records_nothing(results: Path) -> None:
    before = [(folder / JOURNAL).read_text().count('"kind":"metrics"') for folder in folders(results)]
    main(["probe=shift_consistency", "sweep=latest", f"paths.results_dir={results}"])
    assert train(results, "seed=0,1", "probes=[shift_consistency]", "sweep.report=false") == 0
    assert [(folder / JOURNAL).read_text().count('"kind":"metrics"') for folder in folders(results)] == before


def test_another_value_is_one_step_more(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.25, 0.75])
    monkeypatch.setitem(PROBES, "constant", catalog.Probe(lambda trained: {"": next(values)}, "share", "a constant"))
    for _ in range(2):
        main(["probe=constant", f"paths.results_dir={results}"])
    (found,) = [
        known["probe/constant"] for folder in folders(results) if "probe/constant" in (known := recorded(folder))
    ]
    assert found == (2, 0.75)
    assert metrics(results)["probe/constant"] == 0.75


def test_one_probe_that_cannot_ask_a_network_costs_no_other(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusing(trained: Trained) -> dict[str, float]:
        raise ValueError("not defined for this network")

    monkeypatch.setitem(PROBES, "none", catalog.Probe(refusing, "", "nothing"))
    monkeypatch.setitem(PROBES, "half", catalog.Probe(lambda trained: {"": 0.5}, "share", "a half"))
    with pytest.raises(SystemExit, match="1"):
        main(["probe=none,half", f"paths.results_dir={results}"])
    assert "probe=none: not defined for this network.\n" in capsys.readouterr().err
    assert metrics(results)["probe/half"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["probe=shift"], "error: probe=shift is not a probe; choose one of shift_consistency, "),
        ([], "error: probe= names what is measured; choose among shift_consistency, "),
        (["probe=shift_consistency", "run=none-such"], "error: run=none-such is not in "),
        (["probe=shift_consistency", "run=a", "sweep=b"], "error: run=a and sweep=b are two things to measure"),
        (["probe=shift_consistency", "model.strides=1"], "error: model.strides=1: the network and its data come from"),
        (["probe=shift_consistency", "data.root=/nowhere"], None),
    ],
)
def test_what_cannot_be_measured_is_one_clear_error(
    results: Path, arguments: list[str], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if said is None:  # the embedded set needs no root
        main([*arguments, f"paths.results_dir={results}"])
        return
    with pytest.raises(SystemExit, match="1"):
        main([*arguments, f"paths.results_dir={results}"])
    out, refusal = capsys.readouterr()
    assert refusal.startswith(said)
    assert out == ""


def test_an_unknown_probe_of_a_sweep_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="probes=edges is not a probe; choose one of shift_consistency, "):
        load(["probes=[edges]"])


def test_other_data_other_weights_and_none_are_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = next(f for f in folders(results) if json.loads((f / "run.json").read_text())["name"].endswith("s1"))
    (newest,) = (folder / "checkpoints").iterdir()
    kept = newest.read_bytes()

    def refusal(**given: Any) -> str:
        with pytest.raises(SystemExit, match="1"):
            main(["probe=shift_consistency", "sweep=latest", f"paths.results_dir={results}"])
        return capsys.readouterr().err

    other = next(path for f in folders(results) if f != folder for path in (f / "checkpoints").iterdir())
    newest.write_bytes(other.read_bytes())
    assert "does not hold the weights that the run ended with" in refusal()
    newest.write_bytes(kept[:-9])
    assert "is damaged" in (said := refusal()) or "is cut off" in said
    newest.unlink()
    assert "has no checkpoint, so that its final weights are not on this machine" in refusal()
    newest.write_bytes(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stridelab.probes.trained.read_tag", lambda folder, key: f"{key:0<12}")
        assert "is not what the run trained on: its digest was stridelab.da" in refusal()


def test_an_unfinished_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "r", "trainer.lr=1e9") == 1
    with pytest.raises(SystemExit, match="1"):
        main(["probe=shift_consistency", f"paths.results_dir={tmp_path / 'r'}"])
    assert "is FAILED: none has finished; only finished runs are measured." in capsys.readouterr().err


def test_help_lists_every_probe_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    said = capsys.readouterr().out
    assert all(name in said and probe.meaning in said for name, probe in PROBES.items())
    assert names.check_key("probe/shift_consistency", what="metric")
