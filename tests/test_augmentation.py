"""Crops and mirror images: against one image at a time, against SplitMix64 in plain integers, and in a whole fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from torchvision.transforms import functional as tv

from stridelab.config import load
from stridelab.config.variants import science
from stridelab.data.augment import Moves, moved
from stridelab.data.batches import Batches
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data, Split
from stridelab.data.storage import OnDisk
from stridelab.plan.variant import layers_of
from stridelab.training.randomness import Augmentation, keyed_seed, random_bits
from test_training import timeless, train

MASK = 2**64 - 1

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def splitmix64(state: int, count: int) -> list[int]:
    """As its authors wrote it in C, for 64-bit unsigned integers."""
    found = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        word = state
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
        found.append(word ^ (word >> 31))
    return found


def unsigned(bits: Tensor) -> list[int]:
    return [word & MASK for word in bits.tolist()]


def test_random_bits_are_those_that_are_published() -> None:
    assert unsigned(random_bits(0, 3)) == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert unsigned(random_bits(1234567, 2)) == [6457827717110365317, 3203168211198807973]


@given(key=st.integers(0, 2**63 - 1), count=st.integers(1, 70))
def test_random_bits_are_splitmix64(key: int, count: int) -> None:
    assert unsigned(random_bits(key, count)) == splitmix64(key, count)


@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 50), crop=st.integers(0, 9), flip=st.booleans())
def test_what_becomes_of_an_image_is_a_function_of_seed_epoch_and_its_number(
    seed: int, epoch: int, crop: int, flip: bool
) -> None:
    moves = Augmentation(seed, count=40, crop=crop, flip=flip)(epoch)
    words = splitmix64(keyed_seed(seed, "augment", epoch), 40)
    assert moves.down.tolist() == [(word % 2**24) * (2 * crop + 1) // 2**24 for word in words]
    assert moves.right.tolist() == [(word // 2**24 % 2**24) * (2 * crop + 1) // 2**24 for word in words]
    assert (moves.mirrored is not None) == flip
    if moves.mirrored is not None:
        assert moves.mirrored.tolist() == [word // 2**63 for word in words]
    longer = Augmentation(seed, count=90, crop=crop, flip=flip)(epoch)
    assert torch.equal(longer.down[:40], moves.down)  # more images do not change those there were


def one_by_one(images: Tensor, moves: Moves) -> Tensor:
    """torchvision's functions on images [n, c, h, w], one after the other."""
    size, done = list(images.shape[2:]), []
    for number, image in enumerate(images):
        if moves.mirrored is not None and moves.mirrored[number]:
            image = tv.hflip(image)
        padded = tv.pad(image, [moves.padding], fill=0)
        done.append(tv.crop(padded, int(moves.down[number]), int(moves.right[number]), *size))
    return torch.stack(done)


def some_images(count: int, channels: int, height: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(count).integers(1, 256, (count, channels, height, width), np.uint8))


@given(
    count=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    crop=st.integers(0, 4),
    flip=st.booleans(),
    epoch=st.integers(0, 9),
)
def test_a_whole_batch_at_once_equals_torchvision_image_by_image(
    count: int, channels: int, height: int, width: int, crop: int, flip: bool, epoch: int
) -> None:
    images = some_images(count, channels, height, width)
    before = images.clone()
    moves = Augmentation(7, count=count, crop=crop, flip=flip)(epoch)
    expected = one_by_one(images, moves)
    assert torch.equal(moved(images, moves, row_axis=2), expected)
    channels_last = images.permute(0, 2, 3, 1).contiguous()
    assert torch.equal(moved(channels_last, moves, row_axis=1).permute(0, 3, 1, 2), expected)
    assert torch.equal(images, before)


def test_two_mirror_images_are_the_image_and_so_is_a_crop_out_of_the_middle() -> None:
    images = some_images(6, 3, 5, 8)
    still = torch.full((6,), 3)
    mirrored = Moves(0, still, still, torch.tensor([0, 1] * 3))
    assert torch.equal(moved(moved(images, mirrored, row_axis=2), mirrored, row_axis=2), images)
    assert not torch.equal(moved(images, mirrored, row_axis=2), images)
    assert torch.equal(moved(images, Moves(3, still, still, None), row_axis=2), images)
    assert torch.equal(moved(images, Moves(0, still, still, None), row_axis=2), images)


def test_what_a_crop_takes_from_outside_is_black() -> None:
    images = some_images(1, 1, 4, 4)
    corner = Moves(3, torch.tensor([0]), torch.tensor([6]), None)
    cropped = moved(images, corner, row_axis=2)
    assert torch.equal(cropped[0, 0, 3:, :1], images[0, 0, :1, 3:])
    assert int(cropped.count_nonzero()) == 1


@pytest.mark.parametrize("crop", [1, 2, 4])
def test_every_crop_and_mirror_image_is_as_likely_as_every_other(crop: int) -> None:
    choices = 2 * crop + 1
    augment = Augmentation(11, count=60_000, crop=crop, flip=True)
    first, second = augment(0), augment(1)
    assert first.mirrored is not None
    assert second.mirrored is not None
    cells = (first.down * choices + first.right) * 2 + first.mirrored
    assert chisquare(np.bincount(cells, minlength=2 * choices**2)).pvalue > 0.01
    other = Augmentation(12, count=60_000, crop=crop, flip=True)(0)
    for earlier, later in ((first.down[:-1], first.down[1:]), (first.down, second.down), (first.down, other.down)):
        pairs = earlier * choices + later  # neighbours, epochs and seeds know nothing of each other
        assert chisquare(np.bincount(pairs, minlength=choices**2)).pvalue > 0.01
    assert chisquare(np.bincount(first.mirrored * 2 + second.mirrored)).pvalue > 0.01


def shuffled(count: int, seed: int) -> Any:
    return lambda epoch: torch.randperm(count, generator=torch.Generator().manual_seed(100 * seed + epoch))


def by_number(split: Split, *, epoch: int, seed: int, **options: Any) -> dict[int, Tensor]:
    """Each image as a pass of Batches gives it, by its number in the split, which is its label here."""
    augment = Augmentation(3, count=len(split), crop=2, flip=True)
    batches = Batches(
        split, mean=[0.5] * 3, std=[0.2] * 3, order=shuffled(len(split), seed), augment=augment, **options
    )
    batches.set_epoch(epoch)
    return {int(label): image for images, labels in batches for image, label in zip(images, labels, strict=True)}


@pytest.mark.parametrize("is_on_disk", [False, True])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_neither_batches_nor_their_order_layout_or_storage_change_an_image(
    tmp_path: Path, memory_format: torch.memory_format, device: str, is_on_disk: bool
) -> None:
    split = Split(some_images(50, 3, 6, 7).contiguous(memory_format=torch.channels_last), torch.arange(50))
    (tmp_path / "pixels").write_bytes(split.images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
    on_disk = Split(OnDisk(tmp_path / "pixels", (50, 6, 7, 3)), split.labels)
    first = by_number(split, epoch=1, seed=0, batch_size=50)
    other = by_number(
        on_disk if is_on_disk else split, epoch=1, seed=1, batch_size=7, memory_format=memory_format, device=device
    )
    assert len(first) == len(other) == 50
    assert all(torch.equal(first[number], other[number].cpu()) for number in first)
    later = by_number(split, epoch=2, seed=0, batch_size=50)
    assert sum(torch.equal(first[number], later[number]) for number in first) < 10


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load(["data.train_size=200", "data.val_size=50"]).data)


AUGMENTED = ("trainer.crop=3", "trainer.flip=true", "trainer.feature_map_images=0")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of the batches that a fit takes, by what they are for."""
    found: list[str] = []
    real = Batches.__iter__

    def noted(self: Batches) -> Any:
        for images, labels in real(self):
            kind = "augmented" if self.augment else "plain"
            found.append(f"{kind} {hashlib.sha256(images.numpy().tobytes()).hexdigest()}")
            yield images, labels

    monkeypatch.setattr(Batches, "__iter__", noted)
    return found


def test_all_variants_of_a_seed_see_the_same_augmented_images(tmp_path: Path, data: Data, seen: list[str]) -> None:
    taken = []
    for override in ("model.strides=1-2-2", "model.strides=2-2-1", "seed=1"):
        seen.clear()
        train(tmp_path / override, data, override, *AUGMENTED)
        taken.append([line for line in seen if line.startswith("augmented")])
    one, other, other_seed = taken
    assert len(one) == len(set(one)) >= 2  # no two batches alike, in two epochs
    assert one == other
    assert not set(one) & set(other_seed)


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path: Path, data: Data) -> None:
    whole, _ = train(tmp_path / "whole", data, "trainer.max_epochs=3", *AUGMENTED)
    part = tmp_path / "whole" / "checkpoints" / "epoch-0002.ckpt"
    rest, _ = train(tmp_path / "rest", data, "trainer.max_epochs=3", f"ckpt_path='{part}'", *AUGMENTED)
    assert rest.weights_digest == whole.weights_digest
    assert timeless(rest.metrics) == timeless(whole.metrics)


def test_only_training_images_are_augmented(tmp_path: Path, data: Data, seen: list[str]) -> None:
    plain, _ = train(tmp_path / "plain", data, "trainer.feature_map_images=0")
    evaluated = set(seen)
    seen.clear()
    augmented, _ = train(tmp_path / "augmented", data, *AUGMENTED)
    assert {line for line in seen if line.startswith("plain")} < evaluated
    assert augmented.init_digest == plain.init_digest
    assert augmented.batch_order_digest == plain.batch_order_digest
    assert augmented.weights_digest != plain.weights_digest


def test_augmentation_is_part_of_what_a_run_is() -> None:
    plain, augmented = load([]), load(["trainer.crop=4", "trainer.flip=true"])
    assert science(augmented).items() - science(plain).items() == {("trainer.crop", 4), ("trainer.flip", True)}


def test_nonsense_is_refused_with_key_value_and_rule() -> None:
    with pytest.raises(ValueError, match=r"trainer\.crop=-1 must be at least 0"):
        load(["trainer.crop=-1"])
    assert layers_of(load(["trainer.crop=27"]))
    with pytest.raises(ValueError, match=r"trainer\.crop=28 must be less than 28, the shorter side .* data=fashion_mn"):
        layers_of(load(["trainer.crop=28"]))
