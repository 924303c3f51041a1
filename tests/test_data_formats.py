"""Every array format, written here byte by byte as its authors describe it, against torchvision's own classes."""

import gzip
import io
import struct
import tarfile
import threading
import zlib
from dataclasses import replace
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from stridelab.data import DATASETS, DataConfig
from stridelab.data.formats import READERS, FileSet
from stridelab.data.load import load
from test_data_files import DAMAGE, Quiet, cifar_batch, idx, md5, pixels

TRAIN, TEST = 40, 30


def kmnist_files(images, labels):
    """The authors publish, and torchvision keeps, packed files."""
    parts = {"train": (images[:TRAIN], labels[:TRAIN]), "t10k": (images[TRAIN:], labels[TRAIN:])}
    files = {}
    for part, (some, their_labels) in parts.items():
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx(some[..., 0]))
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx(their_labels.astype(np.uint8)))
    return files


def cifar100_files(images, labels):
    planes = images.transpose(0, 3, 1, 2)
    return {
        name: cifar_batch(np.ascontiguousarray(planes[part]), coarse_labels=labels[part] // 5, fine_labels=labels[part])
        for name, part in (("train", slice(TRAIN)), ("test", slice(TRAIN, None)))
    }


def mat_file(**variables):
    """MATLAB 5, as MathWorks describes it: a header, then compressed matrices of bytes, column by column."""

    def element(kind, content):
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    header = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM"
    for name, array in variables.items():
        flags, shape = struct.pack("<II", 9, 0), struct.pack(f"<{array.ndim}i", *array.shape)
        parts = element(6, flags) + element(5, shape) + element(1, name.encode())
        matrix = zlib.compress(element(14, parts + element(2, array.tobytes(order="F"))))
        header += struct.pack("<II", 15, len(matrix)) + matrix
    return header


def svhn_files(images, labels):
    ten_for_zero = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    columns = images.transpose(1, 2, 3, 0)
    return {
        "train_32x32.mat": mat_file(X=columns[..., :TRAIN], y=ten_for_zero[:TRAIN]),
        "test_32x32.mat": mat_file(X=columns[..., TRAIN:], y=ten_for_zero[TRAIN:]),
    }


def stl10_files(images, labels):
    columns, from_one = images.transpose(0, 3, 2, 1), labels.astype(np.uint8) + 1
    return {
        "train_X.bin": columns[:TRAIN].tobytes(),
        "train_y.bin": from_one[:TRAIN].tobytes(),
        "test_X.bin": columns[TRAIN:].tobytes(),
        "test_y.bin": from_one[TRAIN:].tobytes(),
    }


FILES = {"kmnist": kmnist_files, "cifar100": cifar100_files, "svhn": svhn_files, "stl10": stl10_files}


@pytest.fixture
def made(request, monkeypatch, tmp_path):
    """A small set under the name of the real one, in the folder where torchvision looks for it; what is in it."""
    name = request.param
    facts = DATASETS[name]
    height, width = facts.input_size
    images = pixels(TRAIN + TEST, height, width, facts.input_channels)
    labels = np.random.default_rng(0).permutation(np.arange(TRAIN + TEST) % min(facts.num_classes, 10))
    if facts.num_classes == 100:
        labels = labels * 11
    files = FILES[name](images, labels)
    assert list(files) == list(facts.files.digests)
    root = tmp_path / "root"
    for file, content in files.items():
        path = root / facts.files.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    digests = {file: f"md5:{md5(content)}" for file, content in files.items()}
    row = replace(facts, num_train=TRAIN, num_test=TEST, files=replace(facts.files, digests=digests))
    monkeypatch.setitem(DATASETS, name, row)
    return name, root, images, labels


def sets(*names):
    return pytest.mark.parametrize("made", names or FILES, indirect=True)


def theirs(name, root, monkeypatch):
    """torchvision's two splits; of the sums that it knows, none are those of small files."""
    if name == "kmnist":
        for path in (root / "KMNIST" / "raw").glob("*.gz"):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        return [torchvision.datasets.KMNIST(root, train=train) for train in (True, False)]
    kind = getattr(torchvision.datasets, name.upper())
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    if name == "cifar100":
        monkeypatch.setattr(kind, "_load_meta", lambda self: None)  # a file of class names, not read by us
        return [kind(root, train=train) for train in (True, False)]
    return [kind(root, split=split) for split in ("train", "test")]


@sets()
def test_every_pixel_and_label_is_the_one_that_torchvision_reads(made, monkeypatch):
    name, root, images, labels = made
    files = DATASETS[name].files
    arrays = READERS[files.reader](FileSet(root / files.folder, files.digests))
    shape = (*DATASETS[name].input_size, DATASETS[name].input_channels)
    for ours, our_labels, split in zip(arrays[:4:2], arrays[1:4:2], theirs(name, root, monkeypatch), strict=True):
        assert len(split) == len(ours) == len(our_labels)
        assert (ours.dtype, our_labels.dtype, ours.flags.c_contiguous) == (np.uint8, np.int64, True)
        for image, label, (picture, target) in zip(ours, our_labels, split, strict=True):
            assert np.array_equal(image, np.asarray(picture).reshape(shape))
            assert label == target
    assert np.array_equal(np.concatenate(arrays[:4:2]), images)  # and the one that went in
    assert np.array_equal(np.concatenate(arrays[1:4:2]), labels)


@sets("kmnist", "svhn", "stl10")
def test_a_set_is_loaded_from_where_torchvision_keeps_it(made):
    name, root, images, labels = made
    data = load(DataConfig(name=name, root=str(root), val_size=10, download=False))
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 10, 30]
    assert np.array_equal(data.test.images.permute(0, 2, 3, 1).numpy(), images[TRAIN:])
    assert data.test.labels.tolist() == labels[TRAIN:].tolist()


@sets()
def test_a_damaged_file_is_named(made):
    name, root, _, _ = made
    files = DATASETS[name].files
    for file in files.digests:
        path = root / files.folder / file
        content = path.read_bytes()
        for damage in ("half", "flipped", "empty"):
            path.write_bytes(DAMAGE[damage](content))
            with pytest.raises(ValueError, match=rf"{file} is truncated or corrupt: its \d+ bytes have MD5") as caught:
                READERS[files.reader](FileSet(root / files.folder, files.digests))
            assert str(caught.value).startswith(f"{path} is ")
        path.write_bytes(content)


def test_files_of_a_set_without_a_folder_are_asked_for_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"or set data\.root to a folder that has them\.") as caught:
        load(DataConfig(name="svhn", root=str(tmp_path), download=False))
    assert f"({tmp_path}" not in str(caught.value)
    assert f"{tmp_path} (data.root={tmp_path}): lacks train_32x32.mat, test_32x32.mat" in str(caught.value)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder and the address of a server on this machine that hands its files out."""
    folder = tmp_path / "served"
    folder.mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield folder, f"http://127.0.0.1:{http.server_port}/"
    http.shutdown()
    http.server_close()


def offer(name, root, folder, address, monkeypatch):
    """Make torchvision download the small files, in the packing in which it downloads the large ones."""
    kind = getattr(torchvision.datasets, name.upper())
    paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
    if name == "kmnist":
        monkeypatch.setattr(kind, "mirrors", [address])
        monkeypatch.setattr(kind, "resources", [(path.name, md5(path.read_bytes())) for path in paths])
    if name in ("kmnist", "svhn"):
        for path in paths:
            (folder / path.name).write_bytes(path.read_bytes())
    if name == "svhn":
        places = {path.name.split("_")[0]: [address + path.name, path.name, md5(path.read_bytes())] for path in paths}
        monkeypatch.setattr(kind, "split_list", places)
    if name == "stl10":
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(root / "stl10_binary", arcname="stl10_binary")
        (folder / "stl10.tar.gz").write_bytes(packed.getvalue())
        monkeypatch.setattr(kind, "url", f"{address}stl10.tar.gz")
        monkeypatch.setattr(kind, "tgz_md5", md5(packed.getvalue()))


@sets("kmnist", "svhn", "stl10")
def test_a_download_lands_where_the_files_are_looked_for(made, served, tmp_path, monkeypatch):
    name, root, images, _ = made
    offer(name, root, *served, monkeypatch)
    config = DataConfig(name=name, root=str(tmp_path / "new"), val_size=10)
    data = load(config)
    assert np.array_equal(data.test.images.permute(0, 2, 3, 1).numpy(), images[TRAIN:])
    brought = sorted(path.name for path in Path(config.root).rglob("*") if path.is_file())
    assert brought == sorted(DATASETS[name].files.digests)  # no archive, nothing half done
    assert load(replace(config, download=False)).spec == data.spec
