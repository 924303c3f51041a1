"""Promise: what is damaged, swapped, full or changed is found out and said; a run ends with the right bits or not at
all."""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from injection import ACTIONS, Evidence, agenda_of, attempt, complete, elsewhere, evidence, sweep, use_store, work_of

from spoil import empty, flip, truncate
from stridelab.run import RunSpec, run
from stridelab.sweep.agenda import code_digest
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.sweep.task import Task
from stridelab.system.files import write_atomic
from stridelab.tracking.status import read_status, read_tag
from stridelab.training.checkpoints import owner_of, starting_point
from stridelab.training.checksummed import read_sealed, seal


@pytest.fixture(scope="module")
def reference(pool: LocalLauncher, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return complete(pool, work_of(tmp_path_factory.mktemp("reference")))


@pytest.fixture(scope="module")
def interrupted(pool: LocalLauncher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed with checkpoints of epochs 1 and 2."""
    work = work_of(tmp_path_factory.mktemp("interrupted"))
    attempt(pool, work, fault="epoch.trained:3:kill")
    assert sorted(path.name for path in (work.folder / "checkpoints").iterdir()) == [
        "epoch-0001.ckpt",
        "epoch-0002.ckpt",
    ]
    return work.folder


def take_from_another_run(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["stridelab"]["owner"] = "f" * 16
    save_sealed(path, content)


def swap(path: Path) -> None:
    path.write_bytes((path.parent / "epoch-0001.ckpt").read_bytes())


def save_sealed(path: Path, content: object) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(seal(buffer.getvalue()))


SPOILERS: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "a bit flipped": flip,
    "empty": empty,
    "another run's": take_from_another_run,
    "swapped": swap,
}


@pytest.mark.parametrize("how", SPOILERS)
def test_a_checkpoint_that_was_spoiled(
    pool: LocalLauncher, tmp_path: Path, interrupted: Path, reference: Evidence, how: str
) -> None:
    """Fault 13: put aside and said; the older one is used."""
    work = work_of(tmp_path)
    shutil.copytree(interrupted, work.folder)
    SPOILERS[how](work.folder / "checkpoints" / "epoch-0002.ckpt")
    assert complete(pool, work) == reference
    assert (work.folder / "checkpoints" / "epoch-0002.ckpt.bad").exists()
    assert "epoch-0002.ckpt" in (work.folder / "output.txt").read_text()
    assert read_tag(work.folder, "stridelab.continued_from").startswith("epoch 1 of ")


def test_with_no_sound_checkpoint_a_run_begins_anew(
    pool: LocalLauncher, tmp_path: Path, interrupted: Path, reference: Evidence
) -> None:
    """Fault 13: what it recorded before is recorded once."""
    work = work_of(tmp_path)
    shutil.copytree(interrupted, work.folder)
    for path in (work.folder / "checkpoints").iterdir():
        truncate(path)
    assert complete(pool, work) == reference
    assert read_tag(work.folder, "stridelab.continued_from") == ""


def test_every_bit_of_a_sealed_file_counts(tmp_path: Path) -> None:
    """Fault 13: damage anywhere is found."""
    path = tmp_path / "file"
    save_sealed(path, {"a": torch.arange(3)})
    sound = path.read_bytes()
    read_sealed(path)
    for at in range(0, len(sound), 7):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x10]) + sound[at + 1 :])
        with pytest.raises(ValueError, match=r"is damaged|is cut off"):
            read_sealed(path)
        path.write_bytes(sound[:at])
        with pytest.raises(ValueError, match="is cut off"):
            read_sealed(path)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(Path(os.environ["PAYLOAD"])),)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 28: a file with a proper checksum and a pickle that would run a function."""
    monkeypatch.setenv("PAYLOAD", str(tmp_path / "ran"))
    path = tmp_path / "epoch-0001.ckpt"
    save_sealed(path, {"stridelab": {"owner": "", "epoch": 1}, "x": Payload()})
    with pytest.raises(ValueError, match="can be read safely"):
        owner_of(path)
    start = starting_point(tmp_path, owner="", given=None)
    assert start.path is None
    assert not (tmp_path / "ran").exists()
    pickle.dumps(Payload())  # it would have


@pytest.mark.parametrize(
    ("name", "match"),
    [("none.ckpt", "ckpt_path=.*none.ckpt cannot be read: No such file"), ("bad.ckpt", "ckpt_path=.*is cut off")],
)
def test_a_given_checkpoint_that_is_no_good(tmp_path: Path, name: str, match: str) -> None:
    """Fault 13: refused before anything is created."""
    (tmp_path / "bad.ckpt").write_bytes(b"PK not really")
    with pytest.raises(ValueError, match=match):
        sweep(tmp_path / "results", f"ckpt_path={tmp_path / name}")
    assert not (tmp_path / "results").exists()


def test_a_given_checkpoint_counts_by_its_content(tmp_path: Path, interrupted: Path) -> None:
    """Moving the file does not make another run; another file does."""
    checkpoints = interrupted / "checkpoints"
    shutil.copy(checkpoints / "epoch-0002.ckpt", tmp_path / "copy.ckpt")
    keys = [
        work_of(tmp_path, f"ckpt_path='{path}'").identity.signature
        for path in (checkpoints / "epoch-0002.ckpt", tmp_path / "copy.ckpt", checkpoints / "epoch-0001.ckpt")
    ]
    assert keys[0] == keys[1] != keys[2]


def know_how_to_limit(size: int) -> None:
    """From the fault on, no file can be longer: EFBIG, in the place of ENOSPC."""
    ACTIONS["limit"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_no_space_for_a_checkpoint(pool: LocalLauncher, tmp_path: Path, reference: Evidence) -> None:
    """Fault 12: said with path and size; no part of a file under a final name; goes on when there is space."""
    work = work_of(tmp_path)
    attempt(pool, work, fault="checkpoint.begun:2:kill")
    before = (work.folder / "checkpoints" / "epoch-0001.ckpt").read_bytes()
    outcome = attempt(pool, work, fault="checkpoint.begun:1:limit", setup=partial(know_how_to_limit, len(before) // 2))
    assert outcome.status == "failed"
    said = outcome.reason or ""
    assert os.strerror(errno.EFBIG) in said
    assert re.search(r"while writing \d+ bytes to .*epoch-0002.ckpt", said), said
    assert [path.name for path in (work.folder / "checkpoints").iterdir()] == ["epoch-0001.ckpt"]
    assert (work.folder / "checkpoints" / "epoch-0001.ckpt").read_bytes() == before
    assert complete(pool, work) == reference


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk(pool: LocalLauncher, small_disk: Path, reference: Evidence) -> None:
    """Fault 12: the journal fills up too; nothing that was whole is lost, and the run goes on when there is space."""
    work = work_of(small_disk)
    attempt(pool, work, fault="checkpoint.saved:1:kill")
    log = work.folder / "output.txt"
    log.write_bytes(bytes(-(-(log.stat().st_size + 1) // 4096) * 4096))  # no room in its last page for a traceback
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(free))
    outcome = attempt(pool, work)
    assert outcome.status == "failed"
    assert "No space left on device" in (outcome.reason or "")
    owner_of(work.folder / "checkpoints" / "epoch-0001.ckpt")
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    assert complete(pool, work) == reference


def test_a_read_only_results_folder(small_disk: Path) -> None:
    """Fault 15: known before anything is trained, also by root, whom permissions do not stop."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(ValueError, match=r"cannot be written to: Read-only file system"):
        sweep(small_disk)


def test_a_run_folder_that_vanishes(pool: LocalLauncher, tmp_path: Path, reference: Evidence) -> None:
    """Fault 15: no run is complete whose records are gone."""
    work = work_of(tmp_path)
    (outcome,) = pool.run([Task(run_and_lose, (work,))])
    assert outcome.status == "failed"
    assert not (work.folder / "result.json").exists()
    shutil.rmtree(work.folder, ignore_errors=True)
    assert complete(pool, work) == reference


def run_and_lose(work: RunSpec, *, progress: Any) -> Any:
    """In a child: somebody deletes the run's folder in its second epoch."""

    def tell(event: Mapping[str, Any]) -> None:
        if event.get("epoch") == 2:
            shutil.rmtree(work.folder, ignore_errors=True)

    return run(work, progress=tell)


def test_data_that_changed_while_the_sweep_ran(pool: LocalLauncher, tmp_path: Path) -> None:
    """Fault 14: results of two data sets are never mixed."""
    work = replace(work_of(tmp_path), data_digest="0" * 64)
    outcome = attempt(pool, work)
    assert outcome.status == "failed"
    assert "have changed since the sweep began" in (outcome.reason or "")
    assert read_status(work.folder)[0] == "FAILED"


def test_damaged_data_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    """Fault 14: a file that is not what its checksum says."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        (folder / f"{name}-idx{3 if 'images' in name else 1}-ubyte").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"ubyte"):
        sweep(tmp_path / "results", "data=mnist", f"data.root={tmp_path / 'data'}", "data.download=false")


def test_other_code_is_another_run(
    pool: LocalLauncher,
    tmp_path: Path,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fault 23: what old code finished is trained anew, or with reuse=any taken with a warning; its folder stays."""
    results = use_store(tmp_path, template)
    old = work_of(results)
    assert sweep(results) == 0
    before = evidence(old.folder)
    monkeypatch.setattr("stridelab.sweep.agenda.code_digest", lambda: "f" * 64)
    assert code_digest() != "f" * 64
    (new,) = agenda_of(results).to_do
    assert new.folder != old.folder
    agenda = agenda_of(results, "reuse=any")
    assert [work.folder for work in agenda.done] == [old.folder]
    assert agenda.differences == {old.identity.signature: "other code"}
    assert sweep(results, "reuse=any") == 0
    assert "from elsewhere" in capsys.readouterr().out
    assert evidence(old.folder) == before


def test_another_platform_is_said(pool: LocalLauncher, tmp_path: Path, interrupted: Path) -> None:
    """Fault 23: a run that goes on elsewhere is marked as not comparable to the bit; one that was finished elsewhere
    is taken with a warning, or with reuse=none trained again."""
    work = work_of(tmp_path)
    shutil.copytree(interrupted, work.folder)
    origin = work.folder / "provenance.json"
    origin.write_text(origin.read_text().replace('"cpu": "', '"cpu": "Abacus '))
    complete(pool, work)
    assert read_tag(work.folder, "stridelab.mixed_platforms").startswith("CPU Abacus ")
    origin.write_text(origin.read_text().replace('"cpu": "', '"cpu": "Abacus '))
    agenda = agenda_of(tmp_path)
    assert agenda.differences[work.identity.signature].startswith("CPU Abacus ")
    assert len(agenda.done) == 1
    strict = agenda_of(tmp_path, "reuse=none")
    assert [one.folder.name for one in strict.to_do] == [work.folder.name + ".2"]


def test_a_signature_has_its_own_folder(pool: LocalLauncher, tmp_path: Path, interrupted: Path) -> None:
    """Fault 23: a folder of another run is never written into."""
    work = elsewhere(work_of(tmp_path, "seed=5"), tmp_path / "runs" / "there")
    shutil.copytree(interrupted, work.folder)
    outcome = attempt(pool, work)
    assert outcome.status == "failed"
    assert "holds the run" in (outcome.reason or "")


def test_replacing_is_whole_or_nothing(tmp_path: Path) -> None:
    """Fault 15: a file that cannot be replaced is an error, never a save that kept the old content in silence."""
    target = tmp_path / "file"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(OSError, match="file"):
        write_atomic(target, b"new")
    assert list(tmp_path.iterdir()) == [target]
