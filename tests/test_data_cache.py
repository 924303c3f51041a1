"""The cache of decoded images: the same bytes whatever happens on the way, never stale, never damaged, never large in
memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stridelab.cli.train import start
from stridelab.config import load as compose
from stridelab.data import DataConfig, decode, splits
from stridelab.data.batches import Batches
from stridelab.data.cache import Recipe, source_digest
from stridelab.data.contents import forget, index_of
from stridelab.data.images import read_image
from stridelab.data.load import load
from stridelab.data.splits import Data, channel_statistics, digest_of
from stridelab.data.storage import OnDisk
from stridelab.reproduce.rebuild import rebuild
from stridelab.system.locks import locked

ROOT = Path(__file__).parents[1]
SIZE, EACH = 16, 60


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Two classes of 60 images."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir()
        for number in range(EACH):
            Image.fromarray(random.integers(0, 256, (18, 21, 3), np.uint8)).save(root / name / f"{number:02}.png")
    return root


@pytest.fixture
def small_blocks(monkeypatch):
    """Seven images a block, the last one shorter."""
    monkeypatch.setattr(decode, "BLOCK_BYTES", 7 * SIZE * SIZE * 3)


@pytest.fixture
def config(pictures, tmp_path) -> DataConfig:
    forget()
    return DataConfig(name="image_folder", root=str(pictures), size=SIZE, cache_dir=str(tmp_path / "cache"))


def files(config: DataConfig, pattern: str) -> list[Path]:
    return sorted(Path(config.cache_dir).glob(pattern))


def pixel_file(config: DataConfig) -> Path:
    (path,) = files(config, "*.u8")
    return path


def header(config: DataConfig) -> Path:
    (path,) = [path for path in files(config, "*.json") if path.stem.count(".") == 0]
    return path


def told(config: DataConfig, **keys) -> tuple[Data, list[str]]:
    """What is loaded and what is said on the way; `decoded` where images were."""
    events: list[str] = []
    data = load(config, progress=lambda event: events.append(event.get("said", "decoded")), **keys)
    return data, list(dict.fromkeys(events))


def expected_bytes(pictures: Path) -> bytes:
    paths = sorted(pictures.glob("*/*.png"))
    return b"".join(read_image(path, size=(SIZE, SIZE), channels=3).tobytes() for path in paths)


def kept(data: Data) -> list[object]:
    """All of it, apart from the file: what happens to that one would show in what is read from it."""
    return [data.spec, *(getattr(data, name).images for name in ("train", "val", "test"))]


def same(data: Data, before: list[object]) -> bool:
    spec, *images = kept(data)
    return spec == before[0] and all(map(torch.equal, images, before[1:]))


def test_images_are_decoded_once_in_the_order_of_their_names(config, pictures, small_blocks):
    data, said = told(config)
    assert said == ["decoded"]
    assert pixel_file(config).read_bytes() == expected_bytes(pictures)
    again, said = told(config)
    assert said == []
    assert same(again, kept(data))
    assert {path.suffix for path in files(config, "*")} == {".u8", ".json", ".lock"}


def test_facts_of_a_split_are_those_of_its_pixels(config):
    data = load(config)
    assert (data.spec.mean, data.spec.std) == channel_statistics(data.train.images)
    assert data.spec.digest == digest_of(data.train, data.val, data.test)
    part = load(DataConfig(**{**vars_of(config), "train_size": 40}))
    assert part.spec.digest != data.spec.digest
    assert part.spec.mean == channel_statistics(part.train.images)[0]


def vars_of(config: DataConfig) -> dict:
    return {name: getattr(config, name) for name in ("name", "root", "size", "cache_dir")}


def test_a_damaged_note_of_facts_is_made_again(config):
    data = load(config)
    (note,) = [path for path in files(config, "*.json") if path != header(config)]
    for content in (note.read_text().replace("mean", "moan"), "{", "[]", json.dumps({"mean": [0.0]})):
        note.write_text(content)
        assert load(config).spec == data.spec


BUILD = """
import os, sys
from pathlib import Path
from stridelab.data import DataConfig, decode
decode.BLOCK_BYTES = 7 * 16 * 16 * 3
at = int(sys.argv[3])
read, count = decode.read_image, 0
def killed_at_one(*arguments, **keys):
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), 9)
    return read(*arguments, **keys)
decode.read_image = killed_at_one
config = DataConfig(name="image_folder", root=sys.argv[1], size=16, cache_dir=sys.argv[2])
decode.decode(config, checked=False, progress=lambda event: print(event.get("said", "decoded"), flush=True))
print("images read:", count)
"""


def builder(config: DataConfig, *, killed_at: int = -1) -> subprocess.Popen[str]:
    """A process that decodes, and is killed when it comes to an image."""
    command = [sys.executable, "-c", BUILD, config.root, str(config.cache_dir), str(killed_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill(config: DataConfig, *, at: int) -> None:
    """A build that ends when it comes to an image."""
    process = builder(config, killed_at=at)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_after_a_kill_the_same_command_ends_with_the_right_bytes(config, pictures):
    for image in (1, 52, 120):
        kill(config, at=image)
        assert not files(config, "*.u8") + files(config, "*.json")
    (left,) = files(config, "*.part")
    left.write_bytes(b"spoiled" * 10_000)
    said, _ = builder(config).communicate()
    assert said.endswith("images read: 120\n")
    assert pixel_file(config).read_bytes() == expected_bytes(pictures)
    assert {path.suffix for path in files(config, "*")} == {".u8", ".json", ".lock"}
    assert told(config)[1] == []


def test_of_two_builders_one_builds_and_the_other_waits_and_says_so(config, pictures):
    header, index = decode.header_of(config), index_of(config)
    header.parent.mkdir()
    with locked(header.with_suffix(".lock")):
        other = builder(config)
        said = other.stdout.readline()
        assert said.startswith(f"another process is decoding these images; waiting for it (process {os.getpid()} on ")
        recipe = Recipe(config.name, source_digest(index), len(index.paths), SIZE, SIZE, 3)
        decode.make(index, header, recipe, lambda event: None)
    assert other.communicate()[0] == "images read: 0\n"
    assert other.returncode == 0
    assert pixel_file(config).read_bytes() == expected_bytes(pictures)


def spoil(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda config: spoil(pixel_file(config), 0), r"\.u8 is damaged: its bytes are not as they were written"),
        (lambda config: spoil(pixel_file(config), -1), r"\.u8 is damaged: its bytes are not"),
        (
            lambda config: os.truncate(pixel_file(config), 1000),
            r"\.u8 is damaged: it has 1,000 bytes instead of 92,160",
        ),
        (lambda config: pixel_file(config).unlink(), r"\.u8 is gone"),
        (lambda config: spoil(header(config), 40), r"\.json is damaged"),
        (lambda config: header(config).write_text("null"), r"\.json is damaged"),
        (lambda config: header(config).write_bytes(b"\xff\xfe"), r"\.json is damaged"),
    ],
)
@pytest.mark.parametrize("checked", [False, True])
def test_a_damaged_cache_is_named_and_made_again(config, small_blocks, damage, said, checked):
    before = kept(load(config))
    damage(config)
    again, events = told(config, checked=checked)
    assert re.search(said, events[0])
    assert events == [events[0], "decoded"]
    assert same(again, before)


def test_damage_that_left_no_trace_but_in_the_bytes_is_found_before_a_sweep(config, small_blocks):
    before = kept(load(config))
    path = pixel_file(config)
    state = path.stat()
    spoil(path, 5000)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    again, events = told(config)
    assert "its bytes are not" in events[0]
    assert same(again, before)


def change(path: Path) -> None:
    Image.new("RGB", (30, 30), "red").save(path)


@pytest.mark.parametrize(
    "happens",
    [
        lambda root: change(root / "bee" / "07.png"),
        lambda root: change(root / "bee" / "new.png"),
        lambda root: (root / "ant" / "00.png").unlink(),
        lambda root: (root / "ant" / "00.png").rename(root / "bee" / "zz.png"),
        lambda root: (root / "ant").rename(root / "wasp"),
    ],
)
def test_changed_files_are_noticed(config, pictures, tmp_path, happens):
    root = tmp_path / "copy"
    shutil.copytree(pictures, root)
    own = DataConfig(**{**vars_of(config), "root": str(root)})
    before = load(own)
    happens(root)
    data, said = told(own)
    assert said == [next(iter(said)), "decoded"]
    assert said[0].startswith("the image files have changed; the images are decoded again")
    assert data.spec.digest != before.spec.digest or data.spec.class_names != before.spec.class_names
    assert pixel_file(own).read_bytes() == expected_bytes(root)
    assert told(own)[1] == []
    assert before.train.images.numel()  # who has the earlier cache open keeps it


def test_files_that_change_while_they_are_read_are_refused(config, pictures, tmp_path, monkeypatch):
    root = tmp_path / "copy"
    shutil.copytree(pictures, root)

    def meddling(path, **keys):
        if path.name == "30.png":
            change(root / "ant" / "00.png")
        return read_image(path, **keys)

    monkeypatch.setattr(decode, "read_image", meddling)
    with pytest.raises(ValueError, match="changed while they were read; run again"):
        load(DataConfig(**{**vars_of(config), "root": str(root)}))


def test_places_that_cannot_hold_it_are_refused(config, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"cannot be kept in .*file: (Not a directory|File exists)\. data\.cache_dir names"
    ):
        load(DataConfig(**{**vars_of(config), "cache_dir": str(tmp_path / "file")}))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(ValueError, match=r"the decoded images need 0\.0 GB, and .* has 0\.0 GB left"):
        load(config)


def shuffled(count):
    return lambda epoch: torch.randperm(count, generator=torch.Generator().manual_seed(epoch))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_batches_from_the_file_are_those_from_memory_to_the_bit(config, memory_format):
    data = load(config)
    assert isinstance(data.train.storage, OnDisk)
    assert data.train.storage is data.test.storage
    split = data.train
    in_memory = type(split)(split.images, split.labels)
    keys = {"batch_size": 11, "mean": data.spec.mean, "std": data.spec.std, "memory_format": memory_format}
    for order in (None, shuffled(len(split))):
        ours, theirs = (list(Batches(one, order=order, **keys)) for one in (split, in_memory))
        for (images, labels), (expected, expected_labels) in zip(ours, theirs, strict=True):
            assert torch.equal(images, expected)
            assert torch.equal(labels, expected_labels)
            assert images.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_what_a_device_is_given_is_the_split(config, memory_format, monkeypatch):
    """As far as it can be tested without one: the copy that goes there, in parts."""
    split = load(config).train
    batches = Batches(split, batch_size=8, mean=[0.0] * 3, std=[1.0] * 3, memory_format=memory_format)
    monkeypatch.setattr(splits, "PART_BYTES", 10 * SIZE * SIZE * 3)
    assert len(list(split.parts())) > 5
    expected = split.images.permute(0, 2, 3, 1) if memory_format == torch.channels_last else split.images
    assert torch.equal(batches._copied(split), expected)


PEAKS = """
import sys, torch
from pathlib import Path
from stridelab.data.batches import Batches
from stridelab.data.splits import Split
from stridelab.data.storage import OnDisk
for path, count in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    split = Split(OnDisk(Path(path), (count, 64, 64, 3)), torch.zeros(count, dtype=torch.int64))
    batches = Batches(split, batch_size=64, mean=[0.5] * 3, std=[0.2] * 3, order=lambda epoch: torch.randperm(count))
    assert sum(len(labels) for _, labels in batches) == count
    print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Sparse files of 24 and 240 MiB, read in random order, every image."""
    arguments = []
    for count in (2_000, 20_000):
        (tmp_path / f"{count}.u8").touch()
        os.truncate(tmp_path / f"{count}.u8", count * 64 * 64 * 3)
        arguments += [str(tmp_path / f"{count}.u8"), str(count)]
    done = subprocess.run([sys.executable, "-c", PEAKS, *arguments], capture_output=True, text=True, check=True)
    small, large = map(float, done.stdout.split())  # MiB
    assert large - small < 30


def here(*arguments: str) -> int:
    """`train.py` in this process."""
    own = ["data=image_folder", "data.size=16", "trainer.max_epochs=1", "trainer.feature_map_images=0"]
    return start([compose([*own, "launcher=in_process", *arguments])], multirun=False)


def reproduce(folder: Path) -> None:
    """The run, to the bit, with a cache of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reproduce.py"), "run=latest", f"data.cache_dir={folder / 'other'}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "decoded 120 image files" in done.stdout


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
def test_a_run_on_a_folder_from_the_first_look_to_what_is_left_out(pictures, tmp_path, monkeypatch, capsys):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    at, runs = f"data.root={root}", tmp_path / "results" / "runs"
    assert here(at, "sweep.preview=true") == 0
    said = capsys.readouterr().out
    assert "decoded 120 image files of image_folder" in said
    assert "to do" in said
    assert not (tmp_path / "results").exists()
    assert here(at) == 0
    assert "test accuracy" in capsys.readouterr().out
    (run,) = runs.iterdir()
    recorded = json.loads((run / "config.json").read_text())
    assert recorded["data"]["size"] == [16, 16]
    assert rebuild(recorded).config.data == compose(["data=image_folder", "data.size=16", at]).data
    assert here(at, "sweep.preview=true") == 0
    assert "  done" in capsys.readouterr().out
    reproduce(tmp_path)
    (root / "ant" / "00.png").write_bytes(b"")
    (root / "bee" / "notes.txt").write_text("no image")
    with pytest.raises(
        ValueError, match=r"1 of the 120 image files under .* cannot be used: ant/00\.png \(it is empty\)"
    ):
        here(at)
    assert here(at, "data.corrupt=skip") == 0
    assert "left out of" in capsys.readouterr().out
    recorded = [json.loads(path.read_text()) for path in runs.glob("*/data.json")]
    (found,) = [facts for facts in recorded if facts["unreadable"]]
    assert found["unreadable"] == ["ant/00.png (it is empty)"]
    assert found["notes"] == [f"left out of {root}: files .txt: 1, such as bee/notes.txt"]
    assert (found["class_names"], found["num_train"]) == (["ant", "bee"], 86)
