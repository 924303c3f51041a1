"""The code that trains is the code that is signed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from stridelab.cli.train import start as train
from stridelab.config import expand
from stridelab.models.families import FAMILIES
from stridelab.models.user_family import USER_FAMILIES
from stridelab.system.user_code import FunctionSource, files_of
from stridelab.tracking.loaded_code import LOADED_DIGEST, refuse_other_code
from stridelab.tracking.signature import PACKAGE, code_digest, training_sources
from stridelab.tracking.status import read_status
from tracking_stores import local_store

TINY = (
    "model.channels=[4,4,8]", "model.strides=4-2-2", "data.train_size=300", "data.val_size=100",
    "trainer.feature_map_images=0", "sweep.jobs=1", "sweep.report=false",
)  # fmt: skip


def test_all_that_trains_is_loaded_and_has_the_digest_of_the_files() -> None:
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in training_sources()}
    assert {name.removesuffix(".__init__") for name in names} <= set(sys.modules)
    assert code_digest() == LOADED_DIGEST
    refuse_other_code(LOADED_DIGEST)
    refuse_other_code("")
    with pytest.raises(ValueError, match=r"was edited since the sweep began: its digest was abc"):
        refuse_other_code("abc")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package that can be edited."""
    shutil.copytree(PACKAGE, tmp_path / "src" / "stridelab", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "src"


def start(copied: Path, *overrides: str) -> subprocess.Popen[str]:
    code = "from stridelab.cli.train import main; main()"
    words = [sys.executable, "-c", code, "-m", *TINY, f"paths.results_dir={copied.parent / 'results'}", *overrides]
    return subprocess.Popen(
        words, cwd=copied.parent, env=os.environ | {"PYTHONPATH": str(copied)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for(sweep: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    while not list(folder.glob(pattern)):
        assert sweep.poll() is None, sweep.communicate()[0]
        time.sleep(0.05)


EDIT = "\nraise RuntimeError('edited while a sweep ran')\n"


@pytest.mark.parametrize("launcher", ["local", pytest.param("in_process", marks=pytest.mark.faults)])
def test_an_edit_reaches_no_run_of_a_sweep_that_has_begun(copied: Path, launcher: str) -> None:
    """What is loaded is signed, and goes on."""
    with start(copied, "seed=0,1", "trainer.max_epochs=5", f"launcher={launcher}") as sweep:
        wait_for(sweep, copied.parent, "results/runs/*/checkpoints/*.ckpt")
        for room in ("data/load.py", "training/fit.py", "models/build.py", "training/throughput.py"):
            with (copied / "stridelab" / room).open("a") as file:
                file.write(EDIT)
        out, _ = sweep.communicate()
    assert sweep.returncode == 0, out
    assert len(list(copied.parent.glob("results/runs/*/result.json"))) == 2


def test_a_warm_process_that_comes_back_with_other_code_trains_nothing(copied: Path) -> None:
    """The edit changes a result and breaks nothing; without the check the rest would finish under the old signature."""
    with start(copied, "seed=0,1,2", "trainer.max_epochs=60") as sweep:
        wait_for(sweep, copied.parent, "results/runs/*/checkpoints/*.ckpt")
        source = copied / "stridelab" / "training" / "randomness.py"
        source.write_text(source.read_text() + "\n# another text\n")
        for child in psutil.Process(sweep.pid).children():
            if "forkserver" in " ".join(child.cmdline()):
                child.kill()
        out, _ = sweep.communicate()
    assert sweep.returncode == 1, out
    assert "was edited since the sweep began" in " ".join(out.split()), out
    assert not list(copied.parent.glob("results/runs/*/result.json"))
    assert {read_status(path)[0] for path in copied.parent.glob("results/runs/*")} == {"KILLED", "FAILED"}


OWN = """
import stridelab
import torch
from torch import nn
{imports}

@stridelab.family("edited_network")
def edited_network(*, in_channels: int, num_classes: int) -> nn.Module:
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3, 4), *head)
"""


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_an_edit_of_the_users_file_refuses_the_rest_of_the_sweep(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run loads the file anew: what it would train from then on is not what was signed."""
    for registry in (FAMILIES, USER_FAMILIES):
        monkeypatch.setitem(registry, "edited_network", None)  # which ends with the test
        del registry["edited_network"]
    file, results = tmp_path / "mine.py", tmp_path / "results"
    file.write_text(OWN.format(imports="import blocks"))
    (tmp_path / "blocks.py").write_text("WIDTH = 4\n")
    local_store(results, template)
    FunctionSource("", str(file)).load()
    words = [word for word in TINY if not word.startswith("model.")]
    jobs = expand(
        [*words, "model=edited_network", "seed=0,1,2", "trainer.max_epochs=8", f"paths.results_dir={results}"]
    )

    def edit() -> None:
        while not list(results.glob("runs/*/checkpoints/*.ckpt")):
            time.sleep(0.02)
        (tmp_path / "blocks.py").write_text("WIDTH = 5\n")

    thread = threading.Thread(target=edit)
    thread.start()
    assert train([job.config for job in jobs], multirun=True) == 1
    thread.join()
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("mine.py has changed since the sweep began") >= 1
    assert "Results are not mixed; run the command again" in said
    assert len(list(results.glob("runs/*/result.json"))) == 1
    assert sorted(read_status(path)[0] for path in results.glob("runs/*")) == ["FAILED", "FAILED", "FINISHED"]


@pytest.mark.parametrize(
    ("imports", "counts"),
    [
        ("import blocks", "blocks.py"),
        ("from parts import stem", "parts/stem.py"),
        ("from parts.stem import width", "parts/__init__.py"),
        ("import parts.stem as stem", "parts/stem.py"),
        ("from parts import outer", "parts/deep/inner.py"),
        ("import elsewhere", "../lib/elsewhere.py"),
    ],
)
def test_what_a_users_file_imports_counts_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imports: str, counts: str
) -> None:
    home = tmp_path / "home"
    (home / "parts" / "deep").mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    texts = {"mine.py": f"import json, torch, stridelab\n{imports}\n", "parts/outer.py": "from .deep import inner\n"}
    for name in ("blocks.py", "parts/__init__.py", "parts/stem.py", "parts/deep/inner.py", "../lib/elsewhere.py"):
        texts[name] = "width = 1\n"
    for name, text in texts.items():
        (home / name).write_text(text)
    source = FunctionSource("", str(home / "mine.py"))
    before = source.digest
    (home / "other.py").write_text("nobody imports it")
    assert source.digest == before
    (home / counts).write_text("width = 2\n")
    assert source.digest != before
    assert all(file.is_relative_to(tmp_path) for file in files_of(home / "mine.py"))
