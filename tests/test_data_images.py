"""Image files: what is read of them against torchvision, which are found, and which are refused."""

from __future__ import annotations

import itertools
import os
import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy.io import savemat
from torchvision.transforms import CenterCrop, Compose, Grayscale, Resize

from stridelab.data import DATASETS, DataConfig
from stridelab.data.contents import contents_of, forget, index_of
from stridelab.data.images import covering, formats, read_image, suffixes
from stridelab.data.load import load
from stridelab.data.pixel_range import UnreadableError
from stridelab.data.splits import Data, Split

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    forget()


def picture(height=20, width=26, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def folder_of(root: Path, *, classes=("ant", "bee"), each=6, suffix=".png", splits=("",)) -> Path:
    """Images of different sizes in split/class/."""
    seeds = itertools.count()
    for split, name in itertools.product(splits, classes):
        (root / split / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            seed = next(seeds)
            image = picture(14 + seed % 9, 14 + seed % 7, seed=seed)
            image.save(root / split / name / f"{number:02}{suffix}")
    return root


def config_of(root: Path, **keys) -> DataConfig:
    return DataConfig(name="image_folder", root=str(root), **({"size": 12} | keys))


def pixels_of(dataset, size) -> np.ndarray:
    """Every image as torchvision's dataset and transforms give it, uint8 [n, h, w, c]."""
    recipe = Compose([Resize(size), CenterCrop(size)])
    return np.stack([np.asarray(recipe(image.convert("RGB"))) for image, _ in dataset])


def as_nhwc(split: Split) -> np.ndarray:
    return split.images.permute(0, 2, 3, 1).numpy()


def rows(split: Split) -> list[bytes]:
    return [
        image.tobytes() + bytes([label]) for image, label in zip(as_nhwc(split), split.labels.tolist(), strict=True)
    ]


def expected_rows(dataset, size) -> list[bytes]:
    labels = [label for _, label in dataset]
    return [image.tobytes() + bytes([label]) for image, label in zip(pixels_of(dataset, size), labels, strict=True)]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "1", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_torchvisions_transforms(mode, channels, tmp_path):
    size = (9, 9)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "YCbCr") else "image.png")
    picture(mode=mode).save(path)
    colour = Grayscale() if channels == 1 else lambda image: image
    with Image.open(path) as image:
        plain = image.convert("L") if channels == 1 else image.convert("RGB")
        expected = np.asarray(Compose([colour, Resize(9), CenterCrop(9)])(plain)).reshape(*size, channels)
    assert np.array_equal(read_image(path, size=size, channels=channels), expected)


@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(1, 70))
def test_covering_is_resize_and_centre_crop(height, width, size):
    image = picture(height, width)
    expected = CenterCrop(size)(Resize(size)(image))
    assert np.array_equal(np.asarray(covering(image, (size, size))), np.asarray(expected))


@given(*(st.integers(1, 60) for _ in range(4)))
def test_any_size_is_covered_without_distortion(height, width, to_height, to_width):
    found = covering(picture(height, width), (to_height, to_width))
    assert found.size == (to_width, to_height)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_an_image_lies_as_its_camera_was_held(suffix, tmp_path):
    path = tmp_path / f"turned{suffix}"
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture(20, 26).save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
        expected = ImageOps.exif_transpose(Image.open(path))
        found = read_image(path, size=(expected.height, expected.width), channels=3)
        assert np.array_equal(found, np.asarray(expected.convert("RGB"))), orientation
        assert expected.size == ((26, 20) if orientation < 5 else (20, 26))


def test_formats_that_start_other_programs_are_not_opened(tmp_path):
    assert "EPS" in Image.OPEN
    assert "EPS" not in formats()
    assert not {".eps", ".ps"} & suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif"} <= suffixes()
    picture().convert("RGB").save(tmp_path / "image.eps")
    (tmp_path / "image.eps").rename(tmp_path / "image.png")
    with pytest.raises(UnreadableError, match="Pillow finds no image in it"):
        read_image(tmp_path / "image.png", size=(8, 8), channels=3)


def huge_png() -> bytes:
    """A few bytes that say they are an image of 10,000 x 10,000."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def bad_files(folder: Path) -> dict[str, str]:
    """Files that are no images in different ways; name -> what is said of it."""
    picture(60, 60).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-300])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("<!DOCTYPE html>")
    (folder / "huge.png").write_bytes(huge_png())
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(folder / "real.tif")
    return {
        "cut.jpg": "truncated",
        "empty.jpg": "it is empty",
        "text.jpg": "Pillow finds no image in it",
        "huge.png": "more than Pillow's limit",
        "gone.jpg": "No such file or directory",
        "real.tif": "its pixels are not all finite numbers",
    }


def test_unreadable_files_are_named_all_at_once(tmp_path):
    root = folder_of(tmp_path / "set")
    bad = bad_files(root / "bee")
    with pytest.raises(ValueError, match=r"^6 of the 18 image files under .*set cannot be used: ") as caught:
        load(config_of(root))
    said = str(caught.value)
    assert said.count("bee/") == 5
    assert "and 1 more. Repair or remove them, or leave them out with data.corrupt=skip." in said
    assert "bee/cut.jpg (image file is truncated" in said
    assert all(f"bee/{name} (" in said for name in sorted(bad)[:5])


def test_unreadable_files_are_left_out_on_request_and_recorded(tmp_path):
    root = folder_of(tmp_path / "set", each=10, splits=("train", "test"))
    clean = load(config_of(root))
    bad = bad_files(root / "train" / "bee")
    data = load(config_of(root, corrupt="skip"))
    assert [rows(split) for split in (data.train, data.val, data.test)] == [
        rows(split) for split in (clean.train, clean.val, clean.test)
    ]
    assert data.spec.digest == clean.spec.digest
    assert len(data.spec.unreadable) == len(bad)
    for line, (name, why) in zip(data.spec.unreadable, sorted(bad.items()), strict=True):
        assert line.startswith(f"train/bee/{name} (")
        assert why in line
    with pytest.raises(ValueError, match=r"data\.train_size=22: 18 images are left"):
        load(config_of(root, corrupt="skip", train_size=22))


def test_a_class_without_a_readable_image_is_refused(tmp_path):
    root = folder_of(tmp_path / "set", classes=("ant", "bee", "cow"), splits=("train", "test"))
    for path in (root / "train" / "cow").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no image is left to train on in 'cow'"):
        load(config_of(root, corrupt="skip"))


def test_splits_on_disk_are_those_of_image_folder(tmp_path):
    root = folder_of(tmp_path / "set", each=10, splits=("train", "val", "test"))
    data = load(config_of(root))
    for name in ("train", "val", "test"):
        theirs = torchvision.datasets.ImageFolder(root / name)
        assert rows(getattr(data, name)) == expected_rows(theirs, 12)
        assert data.spec.class_names == tuple(theirs.classes)
    part = load(config_of(root, val_size=4, train_size=6))
    assert (part.spec.num_train, part.spec.num_val, part.spec.num_test) == (6, 4, 20)
    assert set(rows(part.val)) < set(rows(data.val))
    assert part.val.labels.bincount().tolist() == [2, 2]


def test_without_a_test_split_val_stands_for_it(tmp_path):
    root = folder_of(tmp_path / "set", each=10, splits=("train", "val"))
    data = load(config_of(root))
    assert rows(data.test) == expected_rows(torchvision.datasets.ImageFolder(root / "val"), 12)
    assert sorted(rows(data.train) + rows(data.val)) == sorted(
        expected_rows(torchvision.datasets.ImageFolder(root / "train"), 12)
    )


def test_without_splits_a_fifth_of_each_class_is_held_out(tmp_path):
    root = folder_of(tmp_path / "set", each=20)
    data, other = load(config_of(root)), load(config_of(root, split_seed=1))
    parts = [data.train, data.val, data.test]
    assert [split.labels.bincount().tolist() for split in parts] == [[14, 15], [2, 1], [4, 4]]
    assert sorted(itertools.chain.from_iterable(map(rows, parts))) == sorted(
        expected_rows(torchvision.datasets.ImageFolder(root), 12)
    )
    assert rows(other.test) == rows(data.test)
    assert rows(other.val) != rows(data.val)
    facts = contents_of(config_of(root)).facts
    assert (facts.num_train, facts.num_val, facts.num_test) == (32, None, 8)


def test_folders_in_a_class_and_links_count_and_other_files_do_not(tmp_path):
    root = folder_of(tmp_path / "set", classes=("ant", "b\u00e9e \u6c34"), each=8)
    folder_of(root / "ant", classes=("more",), each=2)
    (root / "ant" / "link.png").symlink_to(root / "ant" / "00.png")
    (root / "ant" / "notes.txt").write_text("no image")
    (root / "ant" / ".hidden.png").write_bytes(b"")
    os.mkfifo(root / "ant" / "pipe.png")
    (root / ".stridelab").mkdir()
    listing = index_of(config_of(root))
    assert listing.class_names == ("ant", "b\u00e9e \u6c34")
    assert [(some.what, some.count, some.example) for some in listing.omissions] == [
        ("files .txt", 1, "ant/notes.txt"),
        ("hidden files", 1, "ant/.hidden.png"),
        ("hidden folders", 1, ".stridelab"),
        ("pipes, sockets or devices", 1, "ant/pipe.png"),
    ]
    assert [path for path in listing.train.paths if path.startswith("ant/more/")] == [
        "ant/more/00.png",
        "ant/more/01.png",
    ]
    assert listing.train.labels.count(0) == 11
    (root / "ant" / "pipe.png").unlink()  # torchvision would wait for it for ever
    (root / "ant" / ".hidden.png").unlink()
    (root / ".stridelab").rmdir()
    theirs = [Path(path).relative_to(root).as_posix() for path, _ in torchvision.datasets.ImageFolder(root).samples]
    assert list(listing.train.paths) == theirs
    assert load(config_of(root)).spec.num_train > 0


def layout(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def make_loop(root):
    layout(root, "a/1.png", "b/1.png")
    (root / "a" / "again").symlink_to(root / "a")


def make_undecodable(root):
    layout(root, "a/1.png", "b/1.png")
    (root / os.fsdecode(b"caf\xe9")).mkdir()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: None, r"data\.root=.* has no folders: at least two are needed.* Which images are of which"),
        (lambda root: layout(root, "a.png"), r"has no folders"),
        (lambda root: layout(root, "set/a/1.png", "set/b/1.png"), r"has one folder, 'set'.* one folder too high\?"),
        (
            lambda root: layout(root, "a/1.png", "b/1.txt", "c/2.png"),
            r"no images to train on in 'b'\. Images are files",
        ),
        (
            lambda root: layout(root, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/z/1.png"),
            r"test has 'z', for which there is no folder in train/",
        ),
        (
            lambda root: layout(root, "train/a/1.png", "train/b/1.png", "extra/a/1.png"),
            r"has train/ with folders in it, and 'extra' beside it",
        ),
        (lambda root: layout(root, "train/a/1.png", "test/a/1.png"), r"has one folder, 'a'"),
        (
            lambda root: layout(root, "valid/a/1.png", "valid/b/1.png", "test/a/1.png", "test/b/1.png"),
            r"'test', 'valid' have the same folders in them\. If they are splits, call them train/",
        ),
        (make_loop, r"a/again leads to .*a again: its images would count twice"),
        (make_undecodable, r"class folder 'caf\\udce9' has a name that cannot be printed"),
        (lambda root: root.rmdir(), r"the folder .* cannot be read: No such file or directory"),
        (
            lambda root: layout(root, "a/1.png", "b/1.png"),
            r"has too few images, 2 of 2 classes to train on: out of them come a test",
        ),
    ],
)
def test_folders_that_are_no_set_are_refused_in_one_sentence(make, said, tmp_path):
    (tmp_path / "set").mkdir()
    make(tmp_path / "set")
    with pytest.raises(ValueError, match=said):
        contents_of(config_of(tmp_path / "set"))


def test_a_class_may_be_called_train(tmp_path):
    root = folder_of(tmp_path / "set", classes=("bus", "train"), each=10)
    assert load(config_of(root)).spec.class_names == ("bus", "train")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"size": 0}, r"data\.size=0 must be an integer from 1 to 2048, or two of them"),
        ({"size": [8]}, r"data\.size=\[8\] must be"),
        ({"size": "8x"}, r"data\.size=8x must be"),
        ({"size": True}, r"data\.size=True must be"),
        ({"channels": 2}, r"data\.channels=2 must be 1 \(grey\) or 3 \(RGB\)"),
        ({"corrupt": "ignore"}, r"data\.corrupt='ignore' must be one of refuse, skip"),
        ({"cache_dir": " "}, r"data\.cache_dir='' must name a folder"),
        ({"name": "mnist", "size": 32}, r"data\.size=32 is for sets of image files: the images of mnist are 28x28"),
        ({"name": "mnist", "channels": 3}, r"data\.channels=3 is for sets of image files"),
        ({"name": "flowers102", "val_size": 1021}, r"from 102 .* to 1020: the validation split of flowers102 has 1020"),
        ({"name": "flowers102", "train_size": 50}, r"from 102 .* to 1020: the train split of flowers102 has 1020"),
    ],
)
def test_wrong_keys_are_refused_before_any_folder_is_looked_at(keys, said):
    with pytest.raises(ValueError, match=said):
        DataConfig(**({"name": "image_folder", "root": "nowhere"} | keys))


def test_size_has_one_form():
    sizes = [DataConfig(name="eurosat", size=size).size for size in (None, 48, [48, 64], (48, 64), "48x64")]
    assert sizes == [(64, 64), (48, 48), (48, 64), (48, 64), (48, 64)]
    assert contents_of(DataConfig(name="eurosat", size=48, channels=1)).facts.input_size == (48, 48)
    assert contents_of(DataConfig(name="eurosat", channels=1)).facts.input_channels == 1


def shrunk(monkeypatch, name: str, **counts) -> None:
    """The published set, as far as its format goes, with as many images as a test can have."""
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], **counts))


def named(name: str, root: Path) -> Data:
    return load(DataConfig(name=name, root=str(root), size=16, download=False))


def test_eurosat_is_read_as_torchvision_does_with_a_fifth_held_out(tmp_path, monkeypatch):
    folder_of(tmp_path / "eurosat" / "2750", classes=DATASETS["eurosat"].class_names, each=5, suffix=".jpg")
    shrunk(monkeypatch, "eurosat", num_train=40, num_test=10)
    data, theirs = named("eurosat", tmp_path), torchvision.datasets.EuroSAT(tmp_path)
    assert data.spec.class_names == tuple(theirs.classes)
    assert data.test.labels.tolist() == list(range(10))
    parts = rows(data.train) + rows(data.val) + rows(data.test)
    assert sorted(parts) == sorted(expected_rows(theirs, 16))


def test_imagenette_is_read_as_torchvision_does_with_val_as_test(tmp_path, monkeypatch):
    folder = tmp_path / "imagenette2-160"
    wnids = DATASETS["imagenette"].files.class_folders
    folder_of(folder, classes=wnids, each=4, suffix=".JPEG", splits=("train", "val"))
    shrunk(monkeypatch, "imagenette", num_train=40, num_test=40)
    data = named("imagenette", tmp_path)
    theirs = {split: torchvision.datasets.Imagenette(tmp_path, split, "160px") for split in ("train", "val")}
    assert data.spec.class_names == tuple(names[0] for names in theirs["train"].classes)
    assert rows(data.test) == expected_rows(theirs["val"], 16)
    assert sorted(rows(data.train) + rows(data.val)) == sorted(expected_rows(theirs["train"], 16))


def test_pets_are_read_as_torchvision_does(tmp_path, monkeypatch):
    folder = tmp_path / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    breeds = [name.replace(" ", "_") for name in DATASETS["oxford_pets"].class_names]
    for split, numbers in (("trainval", (1, 10, 2)), ("test", (3, 100))):
        lines = []
        for label, breed in enumerate(breeds, start=1):
            for number in numbers:
                picture(20, 24, seed=label * number).save(folder / "images" / f"{breed}_{number}.jpg")
                lines.append(f"{breed}_{number} {label} 1 {label}\n")
        (folder / "annotations" / f"{split}.txt").write_text("".join(lines))
    shrunk(monkeypatch, "oxford_pets", num_train=111, num_test=74)
    data = named("oxford_pets", tmp_path)
    theirs = {split: torchvision.datasets.OxfordIIITPet(tmp_path, split) for split in ("trainval", "test")}
    assert data.spec.class_names == tuple(theirs["test"].classes)
    assert rows(data.test) == expected_rows(theirs["test"], 16)
    assert sorted(rows(data.train) + rows(data.val)) == sorted(expected_rows(theirs["trainval"], 16))
    (folder / "annotations" / "test.txt").write_text("Abyssinian_1 one 1 1\n")
    with pytest.raises(ValueError, match=r"annotations/test\.txt is damaged: line 1 is 'Abyssinian_1 one 1 1'"):
        named("oxford_pets", tmp_path)


def test_flowers_are_read_as_torchvision_does(tmp_path, monkeypatch):
    folder = tmp_path / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    count = 4 * 102
    for number in range(1, count + 1):
        picture(18, 16, seed=number).save(folder / "jpg" / f"image_{number:05d}.jpg")
    labels = RANDOM.permutation(np.arange(count) % 102 + 1)
    order = np.argsort(labels, kind="stable").reshape(102, 4) + 1
    savemat(folder / "imagelabels.mat", {"labels": labels[None].astype(np.uint8)})
    parts = {"trnid": order[:, 1].ravel(), "valid": order[:, 0].ravel(), "tstid": order[:, 2:].ravel()}
    savemat(folder / "setid.mat", {key: RANDOM.permutation(part)[None] for key, part in parts.items()})
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_check_integrity", lambda self: True)  # of the real files
    shrunk(monkeypatch, "flowers102", num_train=102, num_val=102, num_test=204)
    data = named("flowers102", tmp_path)
    for name in ("train", "val", "test"):
        theirs = torchvision.datasets.Flowers102(tmp_path, name)
        assert rows(getattr(data, name)) == expected_rows(theirs, 16)
        assert data.spec.class_names == tuple(theirs.classes)
    (folder / "setid.mat").write_bytes(b"MATLAB 5.0" + bytes(200))
    with pytest.raises(ValueError, match=r"imagelabels\.mat or setid\.mat is damaged"):
        named("flowers102", tmp_path)


def test_a_set_that_is_not_whole_is_refused(tmp_path):
    folder_of(tmp_path / "eurosat" / "2750", classes=DATASETS["eurosat"].class_names, each=5, suffix=".jpg")
    with pytest.raises(ValueError, match=r"it has 40 training images instead of 21600, 10 test images instead of 5400"):
        named("eurosat", tmp_path)
    (tmp_path / "eurosat" / "2750" / "River").rename(tmp_path / "River")
    with pytest.raises(FileNotFoundError, match=r"eurosat/2750 \(data\.root=.*\): lacks River") as caught:
        named("eurosat", tmp_path)
    assert f"unpack the authors' archives so that these are in {tmp_path}/eurosat/2750:" in str(caught.value)


def test_a_download_is_moved_whole(tmp_path, monkeypatch):
    class Brought:
        def __init__(self, root, *, download, **arguments):
            assert download
            assert arguments == {"size": "160px"}
            wnids = DATASETS["imagenette"].files.class_folders
            folder_of(Path(root) / "imagenette2-160", classes=wnids, each=2, suffix=".JPEG", splits=("train", "val"))

    monkeypatch.setattr(torchvision.datasets, "Imagenette", Brought)
    shrunk(monkeypatch, "imagenette", num_train=20, num_test=20)
    root = tmp_path / "root"
    config = DataConfig(name="imagenette", root=str(root), size=8, train_size=10, val_size=10)
    assert load(config).spec.num_test == 20
    assert [path.name for path in root.iterdir()] == ["imagenette2-160"]
    (root / "imagenette2-160" / "val").rename(tmp_path / "val")
    with pytest.raises(FileNotFoundError, match=r"imagenette2-160 is there and incomplete; move it away"):
        load(config)


def test_pillow_does_not_warn_of_what_is_said_anyway(tmp_path):
    root = folder_of(tmp_path / "set", each=8)
    picture().quantize(8).save(root / "ant" / "clear.png", transparency=b"\0\1\2\3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load(config_of(root))
    assert torch.equal(data.test.take(torch.tensor([0])), data.test.images[:1])
