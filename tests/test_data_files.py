"""Files on disk: formats, where they are looked for, downloads, damage. Small sets in the real formats."""

import gc
import gzip
import hashlib
import importlib.util
import os
import threading
import tracemalloc
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from stridelab.data import DATASETS, DataConfig, files
from stridelab.data.catalog.arrays import ARRAY_SETS, DEBIAN_FASHION_MNIST, EMBEDDED
from stridelab.data.catalog.facts import DatasetFacts, Files
from stridelab.data.files import fetch
from stridelab.data.formats import READERS, FileSet, read_cifar, read_file, read_idx
from stridelab.data.load import load

IDX_NAMES = list(DATASETS["mnist"].files.digests)
PLACE = "FashionMNIST/raw"
SCRIPT = Path(__file__).parents[1] / "scripts" / "make_fashion_mnist_mini.py"

needs_debian = pytest.mark.skipif(
    not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def pixels(*shape):
    return np.random.default_rng(shape[0]).integers(0, 256, shape, np.uint8)


IDX_CONTENTS = {
    "train-images-idx3-ubyte": idx(pixels(60, 4, 5)),
    "train-labels-idx1-ubyte": idx(np.arange(60, dtype=np.uint8) % 3),
    "t10k-images-idx3-ubyte": idx(pixels(12, 4, 5)),
    "t10k-labels-idx1-ubyte": idx(np.arange(12, dtype=np.uint8) % 3),
}


def write(folder, contents, *, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A set of 60 + 12 images in Fashion-MNIST's format, under a name of its own; gives its config."""
    facts = DatasetFacts(
        input_channels=1,
        input_size=(4, 5),
        class_names=("a", "b", "c"),
        num_train=60,
        num_test=12,
        source="this test",
        licence="none",
        files=Files(
            reader="idx",
            digests={name: f"md5:{md5(content)}" for name, content in IDX_CONTENTS.items()},
            folder=PLACE,
            elsewhere={"a package": tmp_path / "system"},
            downloader="FashionMNIST",
        ),
    )
    monkeypatch.setitem(DATASETS, "tiny", facts)
    return DataConfig(name="tiny", root=str(tmp_path / "mine"), download=False)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_read_as_torchvision_reads_them(tiny, packed):
    root = Path(tiny.root)
    write(root / PLACE, IDX_CONTENTS, packed=packed)
    write(root / "FashionMNIST" / "raw", IDX_CONTENTS)  # torchvision itself reads unpacked files only
    arrays = read_idx(FileSet(root / PLACE, tiny.files.digests))
    for train, (images, labels) in zip((True, False), (arrays[:2], arrays[2:4]), strict=True):
        theirs = torchvision.datasets.FashionMNIST(root, train=train)
        assert np.array_equal(images[..., 0], theirs.data.numpy())
        assert np.array_equal(labels, theirs.targets.numpy())


def test_a_new_set_of_a_known_format_is_one_row(tiny):
    write(Path(tiny.root) / PLACE, IDX_CONTENTS)
    data = load(tiny)
    assert [len(split) for split in (data.train, data.val, data.test)] == [54, 6, 12]
    assert data.train.images.shape[1:] == (1, 4, 5)
    assert data.spec.class_names == ("a", "b", "c")


def test_places_are_tried_in_order(tiny, tmp_path):
    root, system = Path(tiny.root) / PLACE, tmp_path / "system"
    write(system, IDX_CONTENTS, packed=True)
    assert fetch(tiny) == system
    write(root, dict(list(IDX_CONTENTS.items())[:3]))  # incomplete
    assert fetch(tiny) == system
    write(root, IDX_CONTENTS)
    assert fetch(tiny) == root


def test_nothing_found_says_what_was_tried_and_how_to_place_files(tiny, tmp_path):
    write(Path(tiny.root) / PLACE, {"train-images-idx3-ubyte": b""})
    with pytest.raises(FileNotFoundError) as caught:
        load(tiny)
    assert str(caught.value).splitlines() == [
        "data.name=tiny: the files of this data set were not found. Tried, in this order:",
        f"  1. {tmp_path}/mine/{PLACE} (data.root={tmp_path}/mine): lacks train-labels-idx1-ubyte, "
        "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte",
        f"  2. {tmp_path}/system (a package): no such folder",
        "  3. download: switched off (data.download=false)",
        f"To place them by hand, put these files, as they are or as .gz, into {tmp_path}/mine/{PLACE}:",
        *(f"  {name}" for name in IDX_CONTENTS),
        f"or set data.root to a folder that has {PLACE}.",
        "data=fashion_mnist_mini comes with this package and needs no files.",
    ]


def test_root_may_be_in_the_home_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "sets" / PLACE, IDX_CONTENTS)
    assert fetch(replace(tiny, root="~/sets")) == tmp_path / "sets" / PLACE


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "truncated": lambda content: content[:-7],
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"x",
    "flipped": flipped,
    "a web page": lambda content: b"<!DOCTYPE html>not found",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", IDX_NAMES)
def test_a_damaged_file_is_named(tiny, name, packed, damage):
    folder = Path(tiny.root) / PLACE
    write(folder, IDX_CONTENTS, packed=packed)
    path = folder / (f"{name}.gz" if packed else name)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{name}(\.gz)? is truncated or corrupt: .*Delete it") as caught:
        load(tiny)
    assert str(caught.value).startswith(f"{path} is ")


def zeros_gz(path, num_bytes):
    """Packed, a thousandth of what it unpacks to."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(num_bytes >> 20):
            file.write(bytes(1 << 20))


@pytest.mark.parametrize("write_bomb", [zeros_gz, lambda path, size: os.truncate(path, size)])
def test_a_file_that_holds_far_more_than_the_set_is_never_held_as_a_whole(tiny, write_bomb):
    folder = Path(tiny.root) / PLACE
    write(folder, IDX_CONTENTS)
    path = folder / ("train-images-idx3-ubyte.gz" if write_bomb is zeros_gz else "train-images-idx3-ubyte")
    (folder / "train-images-idx3-ubyte").unlink()
    path.touch()
    write_bomb(path, 256 << 20)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"is truncated or corrupt: it holds more than the 1,050,592 bytes of any"):
        load(tiny)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_a_published_file_that_unpacks_to_far_more_than_the_set_is_refused(tmp_path):
    """Its digest is that of the packed file, and right."""
    zeros_gz(tmp_path / "a.gz", 64 << 20)
    digest = f"md5:{md5((tmp_path / 'a.gz').read_bytes())}"
    with pytest.raises(ValueError, match=r"a\.gz is truncated or corrupt: it holds more than the 1,000,000 bytes"):
        read_file(tmp_path, "a.gz", digest=digest, max_bytes=1_000_000)


def test_a_file_that_may_not_be_read_is_named(tiny, monkeypatch):
    write(Path(tiny.root) / PLACE, IDX_CONTENTS)

    def refused(path, *arguments, **keys):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte cannot be read: Permission denied\."):
        load(tiny)


def text(value):
    return b"U" + bytes([len(value)]) + value.encode()


def number(value):
    return b"J" + value.to_bytes(4, "little", signed=True)


def cifar_batch(images, **labels):
    """The pickle as Python 2 and the numpy of its day wrote it: images uint8 [n, 3, 32, 32]."""
    dtype = b"cnumpy\ndtype\n" + text("u1") + b"K\0K\1\x87R(K\3" + text("|") + b"NNN" + 2 * number(-1) + b"K\0tb"
    shape = number(len(images)) + number(3072) + b"\x86"
    content = b"T" + images.nbytes.to_bytes(4, "little") + images.tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text("b") + b"\x87R"
    array = empty + b"(K\1" + shape + dtype + b"\x89" + content + b"tb"
    entries = text("batch_label") + text("testing batch 1 of 1") + text("data") + array
    for name, values in labels.items():
        entries += text(name) + b"](" + b"".join(number(int(value)) for value in values) + b"e"
    return b"\x80\2}(" + entries + b"u."


@pytest.fixture
def cifar(tmp_path):
    """Five training batches of 20 and a test batch of 10: the folder, the digests, and what went in."""
    images, labels = pixels(110, 3, 32, 32), np.arange(110) % 10
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    contents = {
        name: cifar_batch(images[start : start + 20], labels=labels[start : start + 20])
        for name, start in zip(names, range(0, 110, 20), strict=True)
    }
    write(tmp_path / "cifar-10-batches-py", contents)
    digests = {name: f"md5:{md5(content)}" for name, content in contents.items()}
    return tmp_path / "cifar-10-batches-py", digests, images, labels


def test_cifar_batches_are_read_in_order_and_colours_stay_apart(cifar):
    folder, digests, images, labels = cifar
    arrays = read_cifar(FileSet(folder, dict(reversed(digests.items()))))
    assert np.array_equal(arrays.train_images, images[:100].transpose(0, 2, 3, 1))
    assert np.array_equal(arrays.test_images, images[100:].transpose(0, 2, 3, 1))
    assert np.array_equal(arrays.train_labels, labels[:100])
    assert np.array_equal(arrays.test_labels, labels[100:])
    assert arrays.train_labels.dtype == np.int64


def test_cifar_loads_in_colour(cifar, monkeypatch):
    folder, digests, images, _ = cifar
    cifar10 = DATASETS["cifar10"]
    row = replace(cifar10, num_train=100, num_test=10, files=replace(cifar10.files, digests=digests))
    monkeypatch.setitem(DATASETS, "cifar10", row)
    data = load(DataConfig(name="cifar10", root=str(folder.parent)))
    assert data.test.images.shape == (10, 3, 32, 32)
    assert np.array_equal(data.test.images.numpy(), images[100:])
    assert len(data.spec.mean) == len(data.spec.std) == 3


def test_a_damaged_cifar_batch_is_named(cifar):
    folder, digests, _, _ = cifar
    path = folder / "data_batch_3"
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(ValueError, match=r"data_batch_3 is truncated or corrupt: its \d+ bytes have MD5"):
        read_cifar(FileSet(folder, digests))


def test_a_pickle_that_would_run_code_is_refused_even_with_the_right_digest(cifar):
    folder, digests, _, _ = cifar
    content = b"cos\nsystem\n" + text("touch " + str(folder / "ran")) + b"\x85R."
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(Exception, match=r"a file of arrays has no use for (os|posix)\.system"):
        read_cifar(FileSet(folder, digests | {"test_batch": f"md5:{md5(content)}"}))
    assert not (folder / "ran").exists()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Silent(BaseHTTPRequestHandler):
    """Takes the request and never answers."""

    def do_GET(self):
        self.server.over.wait()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tiny, tmp_path):
    """Makes a server on this machine the place that torchvision downloads Fashion-MNIST from."""
    running = []

    def start(handler):
        http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        http.over = threading.Event()
        running.append(http)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{http.server_port}/"
        monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [mirror])
        return http

    write(tmp_path / "served", IDX_CONTENTS, packed=True)
    sums = [(path.name, md5(path.read_bytes())) for path in sorted((tmp_path / "served").iterdir())]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", sums)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield start
    for http in running:
        http.over.set()
        http.shutdown()
        http.server_close()


def test_torchvision_downloads_with_a_progress_bar(tiny, server, tmp_path, capfd):
    server(partial(Quiet, directory=tmp_path / "served"))
    data = load(replace(tiny, download=True))
    assert data.spec.num_train == 54
    assert "100%" in capfd.readouterr().err
    written = sorted(path.relative_to(tiny.root).as_posix() for path in Path(tiny.root).rglob("*"))
    assert written == sorted(["FashionMNIST", PLACE, *(f"{PLACE}/{name}" for name in IDX_NAMES)])
    assert load(tiny).spec == data.spec  # the second time from the disk


def refuse(server, served):
    http = server(Quiet)
    http.shutdown()
    http.server_close()


def not_there(server, served):
    server(partial(Quiet, directory=served.parent))


def garbled(server, served):
    path = served / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    server(partial(Quiet, directory=served))


def silent(server, served):
    server(Silent)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # torchvision leaves a failed answer open
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (refuse, "Connection refused"),
        (not_there, "HTTP Error 404: File not found"),
        (garbled, "File not found or corrupted"),
        (silent, "timed out"),
    ],
)
def test_a_download_that_fails_leaves_a_reason_and_nothing_else(tiny, server, tmp_path, monkeypatch, fault, reason):
    monkeypatch.setattr(files, "DOWNLOAD_TIMEOUT_S", 0.5)
    fault(server, tmp_path / "served")
    with pytest.raises(FileNotFoundError, match=rf"  3\. download by torchvision: .*{reason}") as caught:
        load(replace(tiny, download=True))
    assert "http:" not in str(caught.value)
    assert not Path(tiny.root).exists()
    del caught
    gc.collect()  # what is left open is closed now, not in some later test


def test_a_root_that_cannot_be_made_is_a_reason_too(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=r"download by torchvision: .*Not a directory"):
        fetch(replace(tiny, root=str(tmp_path / "file" / "root"), download=True))


def test_every_reader_is_used():
    assert {facts.files.reader for facts in ARRAY_SETS.values()} == set(READERS)


def test_embedded_files_carry_their_licence():
    licence = (EMBEDDED / "LICENSE-fashion-mnist.txt").read_text()
    assert "Copyright (c) 2017 Zalando SE" in licence
    assert "Permission is hereby granted, free of charge" in licence


@needs_debian
def test_the_embedded_set_can_be_made_again(tmp_path):
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    digests = DATASETS["fashion_mnist_mini"].files.digests
    assert script.make(DEBIAN_FASHION_MNIST, target=tmp_path) == digests
    made, embedded = (read_idx(FileSet(folder, digests)) for folder in (tmp_path, EMBEDDED))
    assert np.bincount(made.train_labels).tolist() == [800] * 10
    assert np.bincount(made.test_labels).tolist() == [200] * 10
    assert all(np.array_equal(new, old) for new, old in zip(made, embedded, strict=True))


@needs_debian
def test_debians_files_are_the_full_fashion_mnist(tmp_path):
    data = load(DataConfig(name="fashion_mnist", root=str(tmp_path), download=False))
    assert data.train.labels.bincount().tolist() == [5400] * 10
    assert data.val.labels.bincount().tolist() == [600] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.spec.mean == pytest.approx([0.2860], abs=1e-3)  # the figures that everyone quotes
    assert data.spec.std == pytest.approx([0.3530], abs=1e-3)
    assert data.spec.digest == "af149f0d84d1d7fb99c9a39716a55fb9616b37a36e4a0c20804293410ede9630"
