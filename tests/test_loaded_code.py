"""The code that trains is the code that is signed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stridelab.tracking.loaded_code import LOADED_DIGEST, refuse_other_code
from stridelab.tracking.signature import PACKAGE, code_digest, training_sources
from stridelab.tracking.status import read_status

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


@pytest.mark.parametrize("launcher", ["local", "in_process"])
def test_an_edit_reaches_no_run_of_a_sweep_that_has_begun(copied: Path, launcher: str) -> None:
    """What is loaded is signed, and goes on."""
    with start(copied, "seed=0,1,2", "trainer.max_epochs=8", f"launcher={launcher}") as sweep:
        wait_for(sweep, copied.parent, "results/runs/*/checkpoints/*.ckpt")
        for room in ("data/load.py", "training/fit.py", "models/build.py", "training/throughput.py"):
            with (copied / "stridelab" / room).open("a") as file:
                file.write(EDIT)
        out, _ = sweep.communicate()
    assert sweep.returncode == 0, out
    assert len(list(copied.parent.glob("results/runs/*/result.json"))) == 3


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
