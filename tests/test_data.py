"""Settings, registry, splits and what is computed from them, on the embedded set."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stridelab.data import DATASETS, DataConfig
from stridelab.data.catalog.arrays import ARRAY_SETS
from stridelab.data.contents import contents_of
from stridelab.data.formats import READERS
from stridelab.data.load import load
from stridelab.data.splits import Split, channel_statistics, digest_of, probe_images, stratified_order

CONF = Path(__file__).parents[1] / "conf" / "data"


@pytest.fixture(scope="module")
def mini():
    return load(DataConfig())


def rows(split: Split) -> set[bytes]:
    """Each image with its label, to compare splits as sets."""
    return {
        image.numpy().tobytes() + bytes([label])
        for image, label in zip(split.images, split.labels.tolist(), strict=True)
    }


def test_choosing_data_imports_no_torch():
    code = (
        "import sys, stridelab.data as d; from stridelab.data import contents, files;"
        "files.find(config := d.DataConfig(name='cifar10')); contents.contents_of(config);"
        "print(d.DATASETS['cifar10'].input_size, {'torch', 'numpy', 'torchvision'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "(32, 32) set()\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "fasion"}, r"data\.name='fasion' is not a data set; choose one of fashion_mnist_mini, "),
        ({"root": " "}, r"data\.root='' must name a folder"),
        ({"split_seed": -1}, r"data\.split_seed=-1 must be an integer from 0 to"),
        (
            {"train_size": -1},
            r"data\.train_size=-1 must be an integer from 10 .* to 7200: of the 8000 .* 800 ",
        ),
        ({"train_size": 0}, r"data\.train_size=0 must be"),
        ({"train_size": 7201}, r"data\.train_size=7201 must be"),
        ({"train_size": 4001, "val_size": 4000}, r"data\.train_size=4001 must be .* to 4000: .* 4000 "),
        ({"val_size": 0}, r"data\.val_size=0 must be an integer from 10 \(one a class\) to 7990"),
        ({"val_size": 7991}, r"data\.val_size=7991 must be"),
        ({"name": "cifar10", "train_size": 45_001}, r"data\.train_size=45001 must be .* to 45000"),
    ],
)
def test_nonsense_is_refused_with_key_value_and_rule(changes, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**changes)


@pytest.mark.parametrize("name", ARRAY_SETS)
def test_sizes_are_known_without_reading(name):
    config, facts = DataConfig(name=name, train_size=1000), DATASETS[name]
    assert (contents_of(config).num_train, contents_of(config).num_val) == (1000, facts.num_train // 10)
    assert contents_of(DataConfig(name=name)).num_train == facts.num_train - facts.num_train // 10
    assert facts.num_classes == len(set(facts.class_names)) >= 10
    assert facts.files.reader in READERS


def test_every_data_set_has_a_yaml_that_the_schema_accepts():
    assert {path.stem for path in CONF.glob("*.yaml")} == set(DATASETS)
    for path in CONF.glob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        assert set(values) <= {field.name for field in fields(DataConfig)}
        assert DataConfig(**values).name == path.stem


def test_embedded_set_is_ten_thousand_stratified_images(mini):
    assert [len(split) for split in (mini.train, mini.val, mini.test)] == [7200, 800, 2000]
    for split, each in ((mini.train, 720), (mini.val, 80), (mini.test, 200)):
        assert split.labels.bincount().tolist() == [each] * 10
        assert split.labels.dtype == torch.int64
        assert split.images.dtype == torch.uint8
        assert split.images.shape == (10 * each, 1, 28, 28)
        assert split.images.is_contiguous(memory_format=torch.channels_last)


def test_spec_says_what_was_loaded(mini):
    spec = mini.spec
    assert (spec.name, spec.num_classes, spec.class_names[9]) == ("fashion_mnist_mini", 10, "Ankle boot")
    assert (spec.input_channels, spec.input_size) == (1, (28, 28))
    assert (spec.num_train, spec.num_val, spec.num_test) == (7200, 800, 2000)
    assert "Zalando" in spec.source
    assert "MIT" in spec.licence
    # The same images on every machine and under every version of numpy, or results cannot be compared.
    assert spec.digest == "dc878c71c92103ef4f1cabff0f0427edea765505ee92ea6dd8344f9e18a01396"


def test_loading_twice_gives_the_same_bytes(mini):
    again = load(DataConfig())
    assert again.spec == mini.spec
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(again, name).images, getattr(mini, name).images)
        assert torch.equal(getattr(again, name).labels, getattr(mini, name).labels)


def test_splits_share_no_image_and_lose_none(mini):
    other = load(DataConfig(split_seed=1))
    train, val, test = rows(mini.train), rows(mini.val), rows(mini.test)
    assert (len(train), len(val), len(test)) == (7200, 800, 2000)
    assert train.isdisjoint(val)
    assert test.isdisjoint(train | val)
    assert rows(other.train) | rows(other.val) == train | val
    assert rows(other.val) != val
    assert torch.equal(other.test.images, mini.test.images)


def test_smaller_training_parts_lie_in_larger_ones_and_leave_val_and_test_alone(mini):
    small, middle = load(DataConfig(train_size=100)), load(DataConfig(train_size=1003))
    assert small.train.labels.bincount().tolist() == [10] * 10
    assert set(middle.train.labels.bincount().tolist()) == {100, 101}
    assert rows(small.train) < rows(middle.train) < rows(mini.train)
    for name in ("val", "test"):
        assert torch.equal(getattr(small, name).images, getattr(mini, name).images)
    assert len({small.spec.digest, middle.spec.digest, mini.spec.digest}) == 3
    assert (small.spec.num_train, small.spec.num_val, small.spec.num_test) == (100, 800, 2000)
    assert small.spec.mean != mini.spec.mean  # of the images trained on, not of those left out


def test_val_size_is_what_it_says():
    data = load(DataConfig(val_size=2000, train_size=500))
    assert data.val.labels.bincount().tolist() == [200] * 10
    assert rows(data.val).isdisjoint(rows(data.train))


def test_mean_and_std_are_those_of_the_training_images(mini):
    pixels = mini.train.images.numpy().astype(np.float64) / 255
    assert mini.spec.mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert mini.spec.std == pytest.approx([pixels.std()], rel=1e-12)


def test_statistics_are_per_channel():
    images = torch.randint(0, 256, (5000, 3, 4, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[:, 1] //= 3
    images[:, 2] = 255
    mean, std = channel_statistics(images)
    pixels = images.numpy().astype(np.float64) / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert std == pytest.approx(pixels.std((0, 2, 3)), rel=1e-12, abs=0)
    assert (mean[2], std[2]) == (1.0, 0.0)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("part", ["images", "labels"])
def test_digest_changes_with_any_byte(mini, split, part):
    parts = {name: Split(getattr(mini, name).images, getattr(mini, name).labels) for name in ("train", "val", "test")}
    for position in (0, -1):
        changed = getattr(parts[split], part).clone()
        changed.view(-1)[position] ^= 1
        field = "storage" if part == "images" else part
        others = parts | {split: replace(parts[split], **{field: changed})}
        assert digest_of(*others.values()) != mini.spec.digest
    assert digest_of(*parts.values()) == mini.spec.digest


def test_digest_knows_where_a_split_ends(mini):
    whole, joined = mini.val, Split(mini.val.images[:400], mini.val.labels[:400])
    rest = Split(mini.val.images[400:], mini.val.labels[400:])
    assert digest_of(whole) != digest_of(joined, rest)


@given(
    counts=st.lists(st.integers(20, 40), min_size=2, max_size=12),
    shuffle=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_prefix_is_stratified(counts, shuffle, seed):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    shuffle.shuffle(labels)
    array = np.array(labels)
    order = stratified_order(array, seed=seed)
    assert sorted(order) == list(range(len(labels)))
    so_far = (array[order][:, None] == np.arange(len(counts))).cumsum(0)
    share = np.arange(1, len(labels) + 1)[:, None] * np.array(counts) / len(labels)
    # At a depth t into every class, t * count is met to half an image in each, and so the prefix's length to half an
    # image a class: of which a class larger than the others takes more than one's share.
    bound = 0.5 + len(counts) / 2 * max(counts) / len(labels)
    assert np.abs(so_far - share).max() <= bound + 1e-9


def test_the_seed_chooses_the_images():
    labels = np.arange(1000) % 10
    orders = {tuple(stratified_order(labels, seed=seed)[:100]) for seed in range(20)}
    assert len(orders) == 20


def test_probe_images_are_one_of_each_class(mini):
    labels = mini.test.labels.tolist()
    firsts = [labels.index(label) for label in range(10)]
    assert torch.equal(probe_images(mini, 4), mini.test.images[firsts[:4]])
    twelve = probe_images(mini, 12)
    second = [labels.index(label, firsts[label] + 1) for label in range(2)]
    assert torch.equal(twelve, mini.test.images[firsts + second])
    assert torch.equal(probe_images(load(DataConfig(train_size=100, split_seed=7)), 12), twelve)
