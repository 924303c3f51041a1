"""Folders of images as people have them: which files are found, what is left out and said, what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from stridelab.data import DATASETS, DataConfig
from stridelab.data.catalog.facts import DatasetFacts, ImageFiles
from stridelab.data.contents import contents_of, forget, index_of
from stridelab.data.image_index import ImageIndex, Part
from stridelab.data.images import formats, suffixes
from stridelab.data.layouts import LAYOUTS
from stridelab.data.load import load


@pytest.fixture(autouse=True)
def caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    forget()


def fill(root: Path, *folders: str, each: int = 6) -> Path:
    """Images of as many greys as there are folders."""
    for shade, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            Image.new("L", (8, 8), 20 * shade + number).save(root / folder / f"{number}.png")
    return root


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def config_of(root: Path, **keys) -> DataConfig:
    return DataConfig(name="image_folder", root=str(root), size=4, channels=1, **keys)


def omissions(root: Path) -> dict[str, tuple[int, str]]:
    return {some.what: (some.count, some.example) for some in index_of(config_of(root)).omissions}


def test_files_that_are_no_images_are_counted_by_suffix_and_said(tmp_path):
    root = fill(tmp_path / "set", "ant", "bee")
    put(root, *(f"ant/IMG_{number}.HEIC" for number in range(7)), *(f"bee/{number}" for number in range(4)))
    put(root, "labels.csv", "ant/clip.mov", "loose.png", "bee/\x1b[31m.x")
    said: list[str] = []
    data = load(config_of(root), progress=lambda event: said.append(event.get("said", "")))
    expected = (
        f"left out of {root}: files .heic (pip install pillow-heif to read them): 7, such as ant/IMG_0.HEIC; "
        "files without a suffix: 4, such as bee/0; files .csv: 1, such as labels.csv; files .mov: 1, such as "
        "ant/clip.mov; files .x: 1, such as bee/\\x1b[31m.x; image files outside the folders of classes: 1, such as "
        "loose.png"
    )
    assert data.spec.notes == (expected,)
    assert [line for line in said if line] == [expected]
    said.clear()
    assert (
        load(config_of(root), checked=True, progress=lambda event: said.append(event.get("said", ""))).spec == data.spec
    )
    assert said == []  # every run of a sweep records it; none says it again


def test_what_systems_put_into_folders_is_not_trained_on(tmp_path):
    root = fill(tmp_path / "set", "ant", "bee", "ant/deep")
    clean = load(config_of(root)).spec
    fill(root, "ant/@eaDir/0.png", "ant/deep/.thumbnails", "bee/thumbs", "__MACOSX/ant", "@eaDir", "#recycle")
    fill(root, "@Recycle/ant", "#snapshot", "bee/@tmp", "ant/FOUND.000", "Temporary Items", "bee/_thumbs", "a.lrdata")
    put(root, "ant/._0.png", "bee/.DS_Store", "bee/Thumbs.db")
    forget()
    data = load(config_of(root)).spec
    assert data.digest == clean.digest
    assert data.class_names == ("ant", "bee")
    assert omissions(root) == {
        "files .db": (1, "bee/Thumbs.db"),
        "folders #recycle": (1, "#recycle"),
        "folders #snapshot": (1, "#snapshot"),
        "folders @Recycle": (1, "@Recycle"),
        "folders @tmp": (1, "bee/@tmp"),
        "folders FOUND.000": (1, "ant/FOUND.000"),
        "folders Temporary Items": (1, "Temporary Items"),
        "folders _thumbs": (1, "bee/_thumbs"),
        "folders a.lrdata": (1, "a.lrdata"),
        "folders @eaDir": (2, "@eaDir"),
        "folders __MACOSX": (1, "__MACOSX"),
        "folders thumbs": (1, "bee/thumbs"),
        "hidden files": (2, "ant/._0.png"),
        "hidden folders": (1, "ant/deep/.thumbnails"),
    }


def test_a_class_may_be_called_thumbs(tmp_path):
    assert load(config_of(fill(tmp_path / "set", "thumbs", "fists"))).spec.class_names == ("fists", "thumbs")


def test_many_kinds_of_files_are_summed_up(tmp_path):
    root = fill(tmp_path / "set", "ant", "bee")
    put(root, *(f"ant/scan.{number:03}" for number in range(20)))
    (note,) = load(config_of(root)).spec.notes
    assert note.endswith("files .007: 1, such as ant/scan.007; 12 other kinds: 12")


def test_heic_is_read_where_its_package_is_installed(monkeypatch):
    """As far as it can be tested without one: the package is asked to register itself with Pillow."""
    asked: list[bool] = []

    class Plugin:
        @staticmethod
        def register_heif_opener() -> None:
            asked.append(True)
            monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
            monkeypatch.setitem(Image.OPEN, "HEIF", (None, None))

    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", Plugin)
    try:
        formats.cache_clear(), suffixes.cache_clear()
        assert ".heic" in suffixes()
        assert asked == [True]
    finally:
        formats.cache_clear(), suffixes.cache_clear()


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "test"),
        ("training", "validation", "testing"),
        ("Train", "Dev", "Test"),
        ("TRAINING", None, "Testing"),
        ("train", "validation", None),
    ],
)
def test_splits_go_by_the_names_that_people_give_them(train, val, test, tmp_path):
    each = {train: 8, val: 3, test: 5}
    for name in filter(None, (train, val, test)):
        fill(tmp_path / "set", f"{name}/ant", f"{name}/bee", each=each[name])
    facts = contents_of(config_of(tmp_path / "set")).facts
    stands_for_test = test or val
    expected_val = each[val] * 2 if val and test else None
    assert (facts.num_train, facts.num_val, facts.num_test) == (16, expected_val, each[stands_for_test] * 2)


def set_with(*folders, loose=(), each=6):
    def make(root):
        fill(root, *folders, each=each)
        put(root, *loose)

    return make


TRAIN = ("train/ant", "train/bee")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            set_with(*TRAIN, loose=[f"test/{number}.png" for number in range(3)]),
            r"/test has no images in folders of classes; 3 files lie in it without a class\. Put them into test/<cl",
        ),
        (set_with(*TRAIN, loose=["test/ant/a.txt"]), r"/test has no images in folders of classes\. Put them"),
        (set_with(*TRAIN, "test/ant", loose=["Valid/1.jpg"]), r"/Valid has no images .*; 1 files lie in it"),
        (set_with(*TRAIN, "val/ant", "valid/ant"), r"has both val/ and valid/ for the val split: remove one"),
        (
            set_with("train", "test"),
            r"'test', 'train' have no folders of classes in them: put the images of each split in a folder for each",
        ),
        (set_with("Cat", "cat", "dog"), r"has 'Cat' and 'cat', one class in two spellings: join or rename them"),
        (set_with("caf\u00e9", "cafe\u0301"), r"one class in two spellings"),
        (set_with("train/cat", "train/Cat"), r"/train has 'Cat' and 'cat', one class in two spellings"),
        (
            set_with(*TRAIN, "test/Ant"),
            r"/test has 'Ant', for which there is no folder in train/ \('Ant' is spelt 'ant' there\)",
        ),
        (
            set_with("ant", "bee", each=2),
            r"too few images, 4 of 2 classes to train on: out of them come a test split \(a fifth: 0\) and a "
            r"validation split \(one a class: 2\), and one a class must be left\. Five a class are enough",
        ),
        (set_with("ant", "bee", each=1), r"too few images, 2 of 2 classes"),
        (
            set_with(*TRAIN, "test/ant", "test/bee", each=1),
            r"too few images, 2 of 2 classes to train on: out of them come a validation split \(one a class: 2\), and",
        ),
        (
            set_with("ant", loose=["bee/a.heic"]),
            r"no images to train on in 'bee'.*files \.heic: 1|files \.heic \(pip",
        ),
    ],
)
def test_sets_that_cannot_be_trained_and_tested_on_are_refused_with_the_folder(make, said, tmp_path):
    make(tmp_path / "set")
    with pytest.raises(ValueError, match=said):
        contents_of(config_of(tmp_path / "set"))


def test_a_class_that_is_not_tested_is_told(tmp_path):
    root = fill(tmp_path / "set", *TRAIN, "train/cow", "test/ant")
    assert load(config_of(root)).spec.notes == (
        "2 of 3 classes have no test image, and test accuracy says nothing of them: 'bee', 'cow'",
    )


def test_a_test_split_of_which_nothing_can_be_read_is_refused(tmp_path):
    root = fill(tmp_path / "set", *TRAIN)
    put(root, "test/ant/1.png", "test/bee/1.jpg")
    with pytest.raises(
        ValueError, match=r"2 of the 14 image files .*: test/ant/1\.png \(Pillow finds no image in it\)"
    ):
        load(config_of(root))
    with pytest.raises(ValueError, match=r"set: no image of the test split can be read"):
        load(config_of(root, corrupt="skip"))


def test_long_and_foreign_names_are_classes(tmp_path):
    names = ("\u6c34" * 80, "b" * 250, "na\u00efve caf\u00e9 & co.")
    data = load(config_of(fill(tmp_path / "set", *names)))
    assert data.spec.class_names == tuple(sorted(names))


def test_a_link_that_leads_to_itself_is_an_unreadable_image(tmp_path):
    root = fill(tmp_path / "set", "ant", "bee")
    (root / "ant" / "loop.png").symlink_to(root / "ant" / "loop.png")
    with pytest.raises(ValueError, match=r"ant/loop\.png \(Too many levels of symbolic links\)"):
        load(config_of(root))


def test_folders_and_files_without_permission_are_named(tmp_path, monkeypatch):
    root = fill(tmp_path / "set", "ant", "bee")
    scandir, opened = os.scandir, Image.open

    def refuse(path, *arguments, **keys):
        if str(path).endswith(("set/bee/hidden", "ant/3.png")):
            raise PermissionError(13, "Permission denied", str(path))
        return (scandir if Path(path).is_dir() else opened)(path, *arguments, **keys)

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ValueError, match=r"1 of the 12 image files .*: ant/3\.png \(Permission denied\)"):
        load(config_of(root))
    monkeypatch.setattr(os, "scandir", refuse)
    (root / "bee" / "hidden").mkdir()
    with pytest.raises(ValueError, match=r"the folder .*set/bee/hidden cannot be read: Permission denied\."):
        load(config_of(root))


def test_a_new_layout_is_a_function_and_its_row(tmp_path, monkeypatch):
    """Images beside each other, each named by its class."""

    def index_prefixes(folder: Path) -> ImageIndex:
        paths = sorted(path.name for path in folder.glob("*.png"))
        class_names = tuple(sorted({path.split("_")[0] for path in paths}))
        labels = tuple(class_names.index(path.split("_")[0]) for path in paths)
        return ImageIndex(folder, class_names, Part(tuple(paths), labels), None, None)

    monkeypatch.setitem(LAYOUTS, "prefixes", index_prefixes)
    row = DatasetFacts(3, (4, 4), (), 0, 0, "this test", "none", ImageFiles(layout="prefixes", folder="flat"))
    monkeypatch.setitem(DATASETS, "flat", row)
    for folder, name in (("ant", "ant"), ("bee", "bee")):
        fill(tmp_path, folder, each=10)
        (tmp_path / "flat").mkdir(exist_ok=True)
        for path in (tmp_path / folder).iterdir():
            path.rename(tmp_path / "flat" / f"{name}_{path.name}")
    data = load(DataConfig(name="flat", root=str(tmp_path)))
    assert data.spec.class_names == ("ant", "bee")
    assert (data.spec.num_train, data.spec.num_val, data.spec.num_test) == (14, 2, 4)
