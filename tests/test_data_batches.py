"""Batches against the recipe that everyone knows: one image at a time through ToTensor and Normalize."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import Compose, Normalize, ToPILImage, ToTensor

from stridelab.data import DataConfig
from stridelab.data.batches import Batches
from stridelab.data.load import load
from stridelab.data.splits import Split, channel_statistics

FORMATS = [torch.channels_last, torch.contiguous_format]


def random_split(count, *, channels=1, size=(5, 7)):
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, channels, *size), generator=generator).to(torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return Split(images.contiguous(memory_format=torch.channels_last), labels)


def shuffled(count):
    return lambda epoch: torch.randperm(count, generator=torch.Generator().manual_seed(epoch))


def one_by_one(split, indices, *, mean, std):
    recipe = Compose([ToPILImage(), ToTensor(), Normalize(mean, std)])
    return torch.stack([recipe(split.images[index]) for index in indices])


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_pass_equals_totensor_and_normalize_to_the_bit(channels, memory_format, drop_last):
    split = random_split(103, channels=channels)
    mean, std = channel_statistics(split.images)
    batches = Batches(
        split,
        batch_size=20,
        mean=mean,
        std=std,
        order=shuffled(103),
        drop_last=drop_last,
        memory_format=memory_format,
    )
    batches.set_epoch(3)
    seen = list(batches)  # all at once: a buffer used again would show
    assert len(seen) == len(batches) == (5 if drop_last else 6)
    for (images, labels), indices in zip(seen, shuffled(103)(3).split(20), strict=not drop_last):
        assert torch.equal(images, one_by_one(split, indices, mean=mean, std=std))
        assert torch.equal(labels, split.labels[indices])
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.is_contiguous(memory_format=memory_format)


def test_real_images_in_order():
    data = load(DataConfig())
    batches = Batches(data.test, batch_size=300, mean=data.spec.mean, std=data.spec.std)
    images = torch.cat([images for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    assert torch.equal(labels, data.test.labels)
    expected = one_by_one(data.test, range(2000), mean=data.spec.mean, std=data.spec.std)
    assert torch.equal(images, expected)
    assert torch.equal(batches.normalised(data.test.images[5:8]), expected[5:8])


def test_training_images_come_out_with_mean_zero_and_deviation_one():
    data = load(DataConfig(train_size=2000))
    batches = Batches(data.train, batch_size=500, mean=data.spec.mean, std=data.spec.std)
    images = torch.cat([images for images, _ in batches]).double()
    assert images.mean().item() == pytest.approx(0, abs=1e-6)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_set_is_kept_once_and_as_bytes(channels, memory_format):
    split = random_split(1000, channels=channels)
    batches = Batches(
        split,
        batch_size=10,
        mean=[0.5] * channels,
        std=[0.2] * channels,
        order=shuffled(1000),
        memory_format=memory_format,
    )
    next(iter(batches))
    kept = [value for value in vars(batches).values() if isinstance(value, torch.Tensor)]
    image = split.images[0].numel()
    assert all(tensor.numel() <= image for tensor in kept if tensor.is_floating_point())
    assert sum(tensor.numel() > image for tensor in kept if tensor.dtype == torch.uint8) == 1
    if memory_format == torch.channels_last:
        assert any(tensor.data_ptr() == split.images.data_ptr() for tensor in kept)


@given(count=st.integers(1, 60), batch_size=st.integers(1, 70))
def test_len_counts_the_batches_and_every_image_comes_once(count, batch_size):
    split = Split(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), torch.arange(count))
    make = {"batch_size": batch_size, "mean": [0.0], "std": [1.0], "order": shuffled(count)}
    seen = [labels for _, labels in Batches(split, **make)]
    assert len(seen) == len(Batches(split, **make))
    assert all(len(labels) == batch_size for labels in seen[:-1])
    assert sorted(torch.cat(seen).tolist()) == list(range(count))
    if batch_size <= count:
        whole = [labels for _, labels in Batches(split, **make, drop_last=True)]
        assert len(whole) == count // batch_size
        assert all(len(labels) == batch_size for labels in whole)


def test_drop_last_that_would_drop_everything_is_refused():
    with pytest.raises(ValueError, match=r"trainer\.batch_size=64 must be at most the 63 images there are"):
        Batches(random_split(63), batch_size=64, mean=[0.0], std=[1.0], drop_last=True)


def test_epoch_counts_until_the_first_batch_is_taken():
    asked = []

    def order(epoch):
        asked.append(epoch)
        return torch.arange(10)

    batches = Batches(random_split(10), batch_size=4, mean=[0.0], std=[1.0], order=order)
    started = iter(batches)  # Lightning makes the iterator before it says which epoch it is
    batches.set_epoch(5)
    assert len(list(started)) == 3
    list(batches)
    assert asked == [5, 5]


def test_a_constant_channel_becomes_zero_not_nan():
    images = torch.full((4, 2, 3, 3), 7, dtype=torch.uint8)
    images[0, 0] = 0
    mean, std = channel_statistics(images)
    ((normalised, _),) = Batches(Split(images, torch.zeros(4)), batch_size=4, mean=mean, std=std)
    assert normalised.isfinite().all()
    assert normalised[:, 1].abs().max() < 1e-6
