"""Sweeps that travel: what is carried is the same on the other side, and nothing hostile gets in."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import math
import os
import random
import re
import signal
import sqlite3
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from stridelab.cli.runs import main as runs
from stridelab.cli.train import start
from stridelab.config import expand
from stridelab.names import FOLDER_ARCHIVE, IN_SWEEP, in_sweep
from stridelab.report.table import run_table
from stridelab.sweep.agenda import is_finished
from stridelab.tracking.archive import MANIFEST, Limits, read, write
from stridelab.tracking.artifact_paths import broken_rule, clashing
from stridelab.tracking.find import SweepRecord, find_run, find_sweep
from stridelab.tracking.journal import Record
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.parcel import Parcel, unpack
from stridelab.tracking.run import RunIdentity, open_run
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.staging import scratch
from stridelab.tracking.status import repair, run_folders
from stridelab.tracking.store import Store, resolve_store
from stridelab.tracking.sync import sync
from stridelab.tracking.transfer import export_sweep, import_sweep
from tracking_stores import images_of, local_store

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

SMALL = ["trainer.max_epochs=1", "data.train_size=300", "data.val_size=100", "model.channels=[4,4,8]"]
KINDS = (".tar.gz", ".zip")


def store_of(results: Path) -> Store:
    return resolve_store(TrackingConfig(), results_dir=results)


@pytest.fixture
def there(tmp_path: Path, template: Path) -> Path:
    """Another results folder, with an empty store."""
    local_store(tmp_path / "results", template)
    return tmp_path / "results"


@dataclass(frozen=True)
class Swept:
    results: Path
    archives: Mapping[str, Path]
    """By suffix."""

    @property
    def record(self) -> SweepRecord:
        return find_sweep(store_of(self.results))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Two trained runs, one refused; odd numbers and a page among what the sweep's own run holds."""
    folder = tmp_path_factory.mktemp("swept")
    results = folder / "results"
    overrides = ["model.strides=1-2-2,2-2-1,9-9-9", "model.padding=valid", "sweep.report=false", "sweep.name=ours"]
    jobs = expand([*overrides, *SMALL, f"paths.results_dir={results}"])
    start([job.config for job in jobs if job.config is not None], multirun=True)
    own = results / "sweeps" / "ours"
    identity = RunIdentity(json.loads((own / "run.json").read_text())["signature"], "ours", role="sweep")
    (folder / "comparison.html").write_text("<p>a comparison")
    with open_run(own, identity) as run:
        run.metrics({"odd/nan": math.nan, "odd/inf": math.inf, "odd/low": -math.inf, "odd/tenth": 0.1}, step=3)
        run.artifact(folder / "comparison.html", to="pages")
    assert sync(store_of(results), results).complete
    assert sorted(run.status for run in find_sweep(store_of(results)).runs) == ["FAILED", "FINISHED", "FINISHED"]
    archives = {suffix: folder / f"sweep{suffix}" for suffix in KINDS}
    for path in archives.values():
        export_sweep(store_of(results), "ours", path, results=results)
    return Swept(results, archives)


AFRESH = {f"stridelab.{word}" for word in ("signature", "uid", "sent", "members", "reason", "status", "view")}
"""Tags that an import makes anew, or leaves out."""


def files(run: RunRecord) -> dict[str, bytes]:
    """Every artifact but the folder's archive, under its name without the id of the run in that of an image."""
    paths = [path for path in run.artifacts() if path != FOLDER_ARCHIVE]
    return {re.sub(r"\+[0-9a-f-]{36}", "", path): run.artifact(path).read_bytes() for path in paths}


@pytest.mark.parametrize("suffix", KINDS)
def test_everything_arrives_as_it_left(swept: Swept, there: Path, suffix: str) -> None:
    done = import_sweep(swept.archives[suffix], store_of(there), there)
    assert (len(done.new), done.num_known, done.sent.complete) == (4, 0, True)
    was, now = swept.record, find_sweep(store_of(there), done.run_id)
    assert run_table(was).drop(columns="run_id").equals(run_table(now).drop(columns="run_id"))
    for one, other in zip((was.run, *was.runs), (now.run, *now.runs), strict=True):
        assert (one.name, one.status, one.reason, one.params) == (other.name, other.status, other.reason, other.params)
        assert (one.start_ms, one.end_ms) == (other.start_ms, other.end_ms)
        assert one.metrics.keys() == other.metrics.keys()
        for key in one.metrics:
            assert repr(one.history(key)) == repr(other.history(key))
        assert files(one) == files(other)
        ours = {key for key in one.tags if key.startswith("stridelab.") and not key.startswith(IN_SWEEP)} - AFRESH
        assert {key: one.tags[key] for key in ours} == {key: other.tags[key] for key in ours}
        archive = hashlib.sha256(swept.archives[suffix].read_bytes()).hexdigest()
        assert other.tags["stridelab.imported"] == archive
    members = in_sweep(now.name, now.tags["stridelab.uid"])
    assert [run.tags[members] for run in now.runs] == [run.tags["stridelab.label"] for run in now.runs]
    assert repr(now.run.history("odd/nan")) == "[(3, nan)]"
    assert now.run.history("odd/low") == [(3, -math.inf)]
    assert "pages/comparison.html" in now.run.artifacts()
    shown = [path for path in now.runs[0].artifacts() if path.startswith("images/feature_maps")]
    assert len(shown) >= 6
    assert now.runs[0].tags["mlflow.loggedImages"] == "True"


def test_the_same_sweep_gives_the_same_file(swept: Swept, tmp_path: Path) -> None:
    for suffix, path in swept.archives.items():
        again = tmp_path / f"again{suffix}"
        export_sweep(store_of(swept.results), "ours", again)
        assert again.read_bytes() == path.read_bytes()


def test_what_is_here_already_is_left_alone(swept: Swept, there: Path) -> None:
    path = swept.archives[".tar.gz"]
    first = import_sweep(path, store_of(there), there)
    before = {folder: (folder / "journal.jsonl").read_bytes() for folder in run_folders(there)}
    for suffix in KINDS:
        again = import_sweep(swept.archives[suffix], store_of(there), there)
        assert (again.new, again.num_known) == ((), 4)
    assert {folder: (folder / "journal.jsonl").read_bytes() for folder in run_folders(there)} == before
    assert [sweep.run_id for sweep in (find_sweep(store_of(there), "ours"),)] == [first.run_id]
    home = import_sweep(path, store_of(swept.results), swept.results)
    assert (home.new, home.num_known) == ((), 4)


def test_an_import_says_commands_for_the_place_that_it_went_to(
    swept: Swept, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(["import", f"from={swept.archives['.zip']}", f"paths.results_dir={there}"])
    said = capsys.readouterr().out
    assert f" paths.results_dir={there} sweep=" in said
    assert f" paths.results_dir={there} run=<id" in said


def test_the_store_is_asked_as_well_as_the_folder(swept: Swept, tmp_path: Path) -> None:
    """Another results folder, the same store: nothing comes in twice."""
    done = import_sweep(swept.archives[".zip"], store_of(swept.results), tmp_path / "elsewhere")
    assert (done.new, done.num_known) == ((), 4)


def test_an_import_that_was_cut_off_is_completed(swept: Swept, tmp_path: Path, there: Path, template: Path) -> None:
    done = import_sweep(swept.archives[".tar.gz"], store_of(there), there)
    for file in sorted(done.new[-1].rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    done.new[-1].rmdir()
    other = local_store(tmp_path / "other", template)
    again = import_sweep(swept.archives[".tar.gz"], other, there)
    assert again.new == done.new[-1:]
    assert sync(other, there).complete
    assert run_table(find_sweep(other)).drop(columns="run_id").equals(run_table(swept.record).drop(columns="run_id"))


def test_what_was_trained_elsewhere_does_not_stand_for_a_run_of_this_machine(swept: Swept, there: Path) -> None:
    done = import_sweep(swept.archives[".tar.gz"], store_of(there), there)
    assert all(folder.name.startswith("imported-") and not is_finished(folder) for folder in done.new)
    signature = swept.record.runs[0].tags["stridelab.signature"]
    assert find_run(store_of(there), signature).name == swept.record.runs[0].name


def test_what_a_killed_import_left_is_removed_and_what_is_being_made_is_not(tmp_path: Path) -> None:
    results, mine = tmp_path / "results", tmp_path / "mine"
    mine.mkdir()
    with scratch(results) as living:
        for name in (".import-dead", ".import-dead2/runs"):
            (results / name).mkdir(parents=True)
            (results / name / "file").write_text("half")
        (results / ".import-link").symlink_to(mine)
        repair(results)
        assert sorted(results.iterdir()) == sorted([living, results / ".import-link"])
        (results / ".import-dead").mkdir()
        with scratch(results):
            assert not (results / ".import-dead").exists()
            assert living.exists()
    assert list(results.iterdir()) == [results / ".import-link"]
    assert mine.exists()


def killed(work: Callable[[], object], *, after_s: float) -> None:
    """A copy of this process that does some of it."""
    if not (child := os.fork()):
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_an_export_is_whole_or_absent_and_an_import_is_completed(
    swept: Swept, tmp_path: Path, there: Path, seed: int
) -> None:
    chance, out = random.Random(seed), tmp_path / "out"
    for number in range(6):
        to = out / f"{number}.tar.gz"
        killed(lambda to=to: export_sweep(store_of(swept.results), "ours", to, results=swept.results),  # type: ignore[misc]
               after_s=chance.uniform(0.0, 0.4))  # fmt: skip
        assert not to.exists() or to.read_bytes() == swept.archives[".tar.gz"].read_bytes()
    export_sweep(store_of(swept.results), "ours", out / "last.zip", results=swept.results)
    assert all(path.suffix in (".gz", ".zip") for path in out.iterdir()), "what kills left is gone"
    source = swept.archives[".tar.gz"]
    for _ in range(3):
        killed(lambda: import_sweep(source, store_of(there), there), after_s=chance.uniform(0.0, 3.0))
    assert import_sweep(source, store_of(there), there).sent.complete
    assert len(find_sweep(store_of(there)).runs) == 3
    with closing(sqlite3.connect(there / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (4,)
        query = "SELECT count(*), count(DISTINCT run_uuid || key || step) FROM metrics"
        assert len(set(database.execute(query).fetchone())) == 1
    assert not list(there.glob(".import-*"))


def test_a_file_that_exists_is_not_overwritten(swept: Swept, tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"mine\.zip exists already"):
        export_sweep(store_of(swept.results), "ours", path)
    with pytest.raises(ValueError, match=r"must end in \.tar\.gz, \.tgz, \.zip"):
        export_sweep(store_of(swept.results), "ours", tmp_path / "sweep.rar")
    assert path.read_text() == "mine"


def test_what_could_not_be_imported_is_not_exported(swept: Swept, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"would hold .* files and .* bytes, .*; 5 files, .* are the most"):
        export_sweep(store_of(swept.results), "ours", tmp_path / "a.zip", limits=Limits(files=5))
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_has_grown_since_comes_in_whole(tmp_path: Path, there: Path) -> None:
    results = there
    small = listing(RUN)
    first = import_sweep(tar_of(tmp_path / "small.tar.gz", members(small, RUN)), store_of(results), results)
    signed = journal(tags(signature="5" * 16, role="run"), ("artifact", {"path": "page.html", "to": ""}))
    more = replace(RUN, uid="d" * 32, signature="5" * 16, name="more", records=signed)
    large = listing(more, RUN)
    second = import_sweep(tar_of(tmp_path / "large.tar.gz", members(large, RUN, more)), store_of(results), results)
    assert (len(second.new), second.num_known, second.listed, second.sent.complete) == (1, 2, True, True)
    assert second.run_id == first.run_id
    for where in (None, results):
        sweep = find_sweep(store_of(results), first.run_id, results=where)
        assert [run.name for run in sweep.runs] == ["more", "strides=1-2-2 seed=0"]
        assert sweep.run.status == "FINISHED"


def listing(*runs: Parcel) -> Parcel:
    """The sweep, with these members."""
    words = ",".join(f"{run.signature}:{run.uid}" for run in runs)
    return replace(SWEEP, records=journal(tags(sweep="theirs", role="sweep", members=words)))


# Hostile archives. A sound one first: a sweep, a run, an artifact.

PAGE = b"<p>hello"
SHA = hashlib.sha256(PAGE).hexdigest()
BEGAN, ENDED = 1_700_000_000_000, 1_700_000_001_000


def journal(*entries: tuple[str, dict[str, Any]], status: str = "FINISHED") -> tuple[Record, ...]:
    """That of a run that began, recorded `entries`, and ended."""
    start = {"status": "RUNNING", "reason": "", "uid": "a" * 32, "parent": None, "pid": 1}
    all_of_it = [("status", start), *entries, ("status", {"status": status, "reason": ""})]
    return tuple(Record(number, kind, BEGAN + number, data) for number, (kind, data) in enumerate(all_of_it, start=1))


def tags(**values: str) -> tuple[str, dict[str, Any]]:
    return "tags", {f"stridelab.{key}": value for key, value in values.items()}


POINT = ("metrics", {"step": 1, "values": {"test/acc": 0.5}})
RUN = Parcel(
    uid="a" * 32,
    signature="0123456789abcdef",
    name="strides=1-2-2 seed=0",
    role="run",
    records=journal(
        tags(signature="0123456789abcdef", role="run"),
        ("params", {"stride_1": "1"}),
        POINT,
        ("artifact", {"path": "page.html", "to": ""}),
    ),
    files={"page.html": SHA},
)
SWEEP = replace(
    RUN,
    uid="b" * 32,
    signature="fedcba9876543210",
    name="theirs",
    role="sweep",
    records=journal(tags(sweep="theirs", role="sweep", signature="fedcba9876543210")),
    files={},
)

Member = tuple[Any, bytes]
"""A name, TarInfo or ZipInfo, with the content."""


def members(*records: Parcel, files: Mapping[str, bytes] | None = None, **manifest: Any) -> list[Member]:
    """A sound archive of these, the manifest first."""
    inner = {f"runs/{record.key}.json": record.to_json() for record in records}
    inner |= {f"files/{sha}": content for sha, content in (files or {SHA: PAGE}).items()}
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in inner.items()
    }
    whole = {"format": "stridelab sweep", "version": 2, "files": listed} | manifest
    return [(MANIFEST, json.dumps(whole).encode()), *inner.items()]


def tar_of(path: Path, content: list[Member], *, format: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=format) as tar:
        for member, data in content:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def zip_of(path: Path, content: list[Member]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for member, data in content:
            zipped.writestr(member, data)
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def refused(path: Path, folder: Path, *, match: str, limits: Limits | None = None) -> None:
    """One clear error, and not a file or folder more than before."""
    before = snapshot(folder)
    with pytest.raises(ValueError, match=match):
        import_sweep(path, store_of(folder / "results"), folder / "results", limits=limits)
    assert snapshot(folder) == before


def test_the_sound_archive_that_the_hostile_ones_are_made_from_is_taken(tmp_path: Path, template: Path) -> None:
    for number, path in enumerate(
        [tar_of(tmp_path / "a.tar.gz", members(SWEEP, RUN)), zip_of(tmp_path / "a.zip", members(SWEEP, RUN))]
    ):
        results = tmp_path / f"results{number}"
        store = local_store(results, template) if number else store_of(results)  # the first makes its store
        sweep = find_sweep(store, import_sweep(path, store, results).run_id)
        assert sweep.runs[0].history("test/acc") == [(1, 0.5)]
        assert sweep.runs[0].artifact("page.html").read_bytes() == PAGE


def special(name: str, kind: bytes, linkname: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, linkname, size
    return info


def extended() -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"files/{SHA}")
    info.pax_headers = {"SCHILY.xattr.user.x": "y"}
    return info


SOUND = members(SWEEP, RUN)
REST = SOUND[:-1]
"""Without the artifact, which is the last."""
LAST = f"files/{SHA}"
HOSTILE_TAR: dict[str, tuple[Callable[[], list[Member]], str]] = {
    "a path above": (lambda: [*SOUND, ("../evil", b"x")], r"member '\.\./evil' is not a name"),
    "a path above, inside": (lambda: [*SOUND, ("files/../../evil", b"x")], r"'files/\.\./\.\./evil' is not a name"),
    "an absolute path": (lambda: [*SOUND, ("/tmp/evil", b"x")], "member '/tmp/evil' is not a name"),
    "a name with a newline": (lambda: [*SOUND, (LAST + "\n", b"x")], "is not a name in such an archive"),
    "a symbolic link": (lambda: [*REST, (special(LAST, tarfile.SYMTYPE, "/etc/passwd"), b"")], "is a symbolic link"),
    "a hard link": (lambda: [*REST, (special(LAST, tarfile.LNKTYPE, MANIFEST), b"")], "is a hard link; only plain"),
    "a device": (lambda: [*REST, (special(LAST, tarfile.CHRTYPE), b"")], "is a device; only plain files"),
    "a pipe": (lambda: [*REST, (special(LAST, tarfile.FIFOTYPE), b"")], "is a pipe; only plain files"),
    "a folder": (lambda: [*REST, (special(LAST, tarfile.DIRTYPE), b"")], "is a folder; only plain files"),
    "an unknown kind": (lambda: [*REST, (special(LAST, b"Z"), b"")], "is no plain file"),
    "a name twice": (lambda: [*SOUND, SOUND[-1]], "is there twice"),
    "a second manifest": (lambda: [*SOUND, SOUND[0]], "'manifest.json' is there twice"),
    "a member too many": (lambda: [*SOUND, ("files/" + "0" * 64, b"x")], "is not in the manifest"),
    "a member too few": (lambda: REST, f"member '{LAST}' is in the manifest but not in the archive"),
    "another content": (lambda: [*REST, (LAST, b"<p>evil!")], "is not what the manifest says"),
    "the manifest last": (lambda: [*SOUND[1:], SOUND[0]], r"comes before manifest\.json"),
    "no manifest": (list, r"holds no manifest\.json|damaged"),
    "another kind of archive": (lambda: members(SWEEP, format="else"), "is not that of a sweep exported by Stridelab"),
    "a later version": (lambda: members(SWEEP, RUN, version=3), "is of format version 3; this Stridelab reads 2"),
    "a manifest of depth": (lambda: [(MANIFEST, b"[" * 200_000)], r"'manifest\.json' is not JSON"),
    "a name that is not its hash": (
        lambda: members(SWEEP, RUN, files={"0" * 64: PAGE}),
        "is not named by its own SHA-256",
    ),
    "a file of no run": (lambda: members(SWEEP), "belongs to no run"),
    "a run without its file": (
        lambda: members(SWEEP, replace(RUN, files={"page.html": SHA, "x": "1" * 64})),
        "is an artifact of a run but not in the archive",
    ),
    "two sweeps": (lambda: members(SWEEP, replace(SWEEP, uid="c" * 32), RUN), "holds 2 sweeps; it must hold 1"),
    "no sweep": (lambda: members(RUN), "holds 0 sweeps; it must hold 1"),
}


@pytest.mark.parametrize("what", HOSTILE_TAR)
def test_hostile_tar_files_are_refused_with_nothing_written(tmp_path: Path, what: str) -> None:
    make, match = HOSTILE_TAR[what]
    refused(tar_of(tmp_path / "evil.tar.gz", make()), tmp_path, match=match)


def test_extended_headers_are_refused(tmp_path: Path) -> None:
    content = [*REST, (extended(), PAGE)]
    refused(tar_of(tmp_path / "e.tar.gz", content, format=tarfile.PAX_FORMAT), tmp_path, match="extended headers")


def zip_info(name: str, *, mode: int = 0, packed: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, packed
    return info


HOSTILE_ZIP: dict[str, tuple[Callable[[], list[Member]], str]] = {
    "a path above": (lambda: [*SOUND, ("../evil", b"x")], r"member '\.\./evil' is not a name"),
    "an absolute path": (lambda: [*SOUND, ("/tmp/evil", b"x")], "member '/tmp/evil' is not a name"),
    "a backslash": (lambda: [*SOUND, ("files\\..\\evil", b"x")], "is not a name"),
    "a symbolic link": (lambda: [*REST, (zip_info(LAST, mode=stat.S_IFLNK | 0o777), PAGE)], "is a symbolic link"),
    "a device": (lambda: [*REST, (zip_info(LAST, mode=stat.S_IFCHR), PAGE)], "is no plain file"),
    "a folder": (lambda: [*SOUND, ("files/", b"")], "'files/' is not a name"),
    "another packing": (lambda: [*REST, (zip_info(LAST, packed=zipfile.ZIP_LZMA), PAGE)], "packed in another way"),
    "another content": (lambda: [*REST, (LAST, b"<p>evil!")], "is not what the manifest says"),
    "a later version": (lambda: members(SWEEP, RUN, version="<b>"), "is of format version <b>"),
}


@pytest.mark.parametrize("what", HOSTILE_ZIP)
def test_hostile_zip_files_are_refused_with_nothing_written(tmp_path: Path, what: str) -> None:
    make, match = HOSTILE_ZIP[what]
    refused(zip_of(tmp_path / "evil.zip", make()), tmp_path, match=match)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_zip_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    refused(zip_of(tmp_path / "evil.zip", [*SOUND, SOUND[-1]]), tmp_path, match="is there twice")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "evil.zip", SOUND)
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\1\2", content.index(b"PK\1\2") + 4)  # the second member's
    content[directory + 8] |= 1
    path.write_bytes(content)
    refused(path, tmp_path, match="is encrypted; only plain files")


LIMITS = {
    "a file": (Limits(file_bytes=4), "says it holds .* bytes; 4 a file are the most"),
    "files": (Limits(files=3), "is one too many; 3 files are the most"),
    "bytes": (Limits(total_bytes=1200), r"goes beyond 1,200 bytes in all|bytes; 1,200 are the most"),
    "records": (Limits(json_bytes=600), "goes beyond 600 bytes of records, which are the most"),
    "a record": (Limits(record_bytes=400), "holds .* bytes; 400 a record are the most"),
    "points": (Limits(points=0), "holds 1 values of metrics; 0 are the most"),
}


@pytest.mark.parametrize("what", LIMITS)
@pytest.mark.parametrize("suffix", KINDS)
def test_limits_are_kept_and_said(tmp_path: Path, what: str, suffix: str) -> None:
    limits, match = LIMITS[what]
    path = tmp_path / f"large{suffix}"
    make = tar_of if suffix == ".tar.gz" else zip_of
    refused(make(path, SOUND), tmp_path, match=match, limits=limits)


def test_bombs_do_not_go_off(tmp_path: Path) -> None:
    """A header that is a gigabyte, a tail of zeros that never ends, a file that is longer than it says."""
    large = special("x", tarfile.XHDTYPE, size=1 << 30)
    blocks = b"".join([large.tobuf(tarfile.USTAR_FORMAT), bytes(1 << 20)])
    path = tmp_path / "header.tar.gz"
    path.write_bytes(gzip.compress(blocks))
    refused(path, tmp_path, match="a header of 1,073,741,824 bytes; 33,554,432 are the most")

    sound = gzip.decompress(tar_of(tmp_path / "sound.tar.gz", SOUND).read_bytes())
    path = tmp_path / "tail.tar.gz"
    path.write_bytes(gzip.compress(sound + bytes(1 << 22)))
    refused(path, tmp_path, match="unpacks to more than 112,400 bytes", limits=Limits(files=50, total_bytes=10_000))

    path = tmp_path / "size.tar.gz"
    path.write_bytes(gzip.compress(special(LAST, tarfile.REGTYPE, size=1 << 40).tobuf(tarfile.GNU_FORMAT)))
    refused(path, tmp_path, match=r"comes before manifest|says it holds")


def test_a_header_that_leads_back_does_not_loop(tmp_path: Path) -> None:
    """A negative size, which takes the reader to where it has been (CVE-2025-8194)."""
    info = special(MANIFEST, tarfile.REGTYPE).tobuf(tarfile.GNU_FORMAT)
    negative = bytearray(info)
    negative[124:136] = b"\xff" * 10 + (-1024 & 0xFFFF).to_bytes(2, "big")
    negative[148:156] = b" " * 8
    negative[148:156] = b"%06o\0 " % sum(negative)
    path = tmp_path / "back.tar.gz"
    path.write_bytes(gzip.compress(info + bytes(negative) + bytes(2048)))
    refused(path, tmp_path, match="Nothing was imported|damaged")


def contents_of(path: Path) -> tuple[dict[str, Any], set[str], dict[str, bytes]]:
    records: dict[str, Any] = {}
    with TemporaryDirectory() as place:
        names = read(path, limits=Limits(), into=Path(place), take=records.__setitem__)
        return records, names, {one.name: one.read_bytes() for one in Path(place, "files").iterdir()}


@pytest.mark.parametrize("suffix", KINDS)
def test_a_damaged_file_is_refused_or_holds_the_very_same(tmp_path: Path, suffix: str) -> None:
    """Cut at any length, a byte changed anywhere: bytes that mean nothing (a gzip's date) may change."""
    make = tar_of if suffix == ".tar.gz" else zip_of
    whole = make(tmp_path / f"whole{suffix}", SOUND).read_bytes()
    sound = contents_of(tmp_path / f"whole{suffix}")
    path = tmp_path / f"damaged{suffix}"
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged"):
            contents_of(path)
    chance, kept, said = random.Random(0), 0, list[str]()
    for _ in range(300):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        try:
            contents = contents_of(path)
        except ValueError as error:
            said.append(str(error))
        else:
            kept += 1
            assert contents == sound
    assert all(text.startswith(str(path)) for text in said)
    assert kept < 150


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for name, content in {
        "empty.zip": b"",
        "text.tar.gz": b"hello",
        "cut.zip": b"PK\3\4",
        "gz.tgz": b"\x1f\x8b",
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, tmp_path, match=f"{name} is damaged, or no archive of this kind")


def entry(kind: Any, **data: Any) -> dict[str, Any]:
    return {"records": journal((kind, data))}


BAD_RECORDS = {
    "a path above": ({"files": {"../../evil": SHA}}, r"artifact '\.\./\.\./evil' is not a path inside"),
    "an absolute path": ({"files": {"/tmp/evil": SHA}}, "artifact '/tmp/evil' is not a path inside"),
    "a path through above": ({"files": {"a/../../evil": SHA}}, "is not a path inside a run's artifacts"),
    "a backslash": ({"files": {"..\\evil": SHA}}, "is not made of at most 10 parts"),
    "a drive": ({"files": {"C:evil": SHA}}, "is not made of at most 10 parts"),
    "a NUL": ({"files": {"a\0b": SHA}}, "is not made of at most 10 parts"),
    "too deep": ({"files": {"a/" * 10 + "b": SHA}}, "is not made of at most 10 parts"),
    "two that differ in case": ({"files": {"Page": SHA, "page": SHA}}, "is at, above or below another"),
    "a file as a folder": ({"files": {"a": SHA, "a/b": SHA}}, "artifact 'a/b' is at, above or below another"),
    "the journal itself": ({"files": {"journal.jsonl": SHA}}, "is a file that a run's folder keeps for itself"),
    "its position": ({"files": {"mirror.json": SHA}}, "is a file that a run's folder keeps for itself"),
    "a checkpoint": ({"files": {"checkpoints/1.ckpt": SHA}}, "is a file that a run's folder keeps for itself"),
    "no hash": ({"files": {"page.html": "../x"}}, "must come with the SHA-256"),
    "a uid that is a path": ({"uid": "../" * 10 + "ab"}, "uid must be 32 hex digits"),
    "a signature that is a path": ({"signature": "../x"}, "signature must be a signature"),
    "a name for the terminal": ({"name": "\x1b[2Jhello"}, "name must be 1 to 250 printable characters"),
    "an unknown role": ({"role": "admin"}, "role must be one of run, sweep"),
    "no journal": ({"records": ()}, "journal must begin with a status"),
    "a status": ({"records": journal(status="DONE")}, "status must be RUNNING or one of FINISHED, FAILED, KILLED"),
    "a kind": (entry("code", run="x"), "holds an entry that is none: 'code'"),
    "a kind that is none": (entry(["metrics"], step=1), "holds an entry that is none"),
    "a metric's name": (entry("metrics", step=1, values={"../x": 1.0}), r"holds a metric name '\.\./x'"),
    "a metric's value": (entry("metrics", step=1, values={"x": True}), "metric 'x' must be a number"),
    "a value of text": (entry("metrics", step=1, values={"x": "1"}), "metric 'x' must be a number"),
    "a step": (entry("metrics", step=1 << 70, values={"x": 1.0}), "a step must be a whole number"),
    "no step": (entry("metrics", values={"x": 1.0}), "holds an entry that is none: 'metrics'"),
    "a tag's name": (entry("tags", **{"a\nb": "x"}), "holds a tag name"),
    "a tag's length": (entry("tags", a="x" * 8001), "tag 'a' must be text of at most 8000"),
    "a tag for the terminal": (entry("tags", **{"stridelab.variant": "\x1b[2J"}), "'stridelab.variant' must be prin"),
    "a surrogate": (entry("params", a="\ud800"), "parameter 'a' must be text"),
    "an image elsewhere": (entry("image", key="x", step=1, file="../x"), "image 'x' must be in a file of its key"),
    "an artifact elsewhere": (entry("artifact", path="../x", to=""), r"artifact '\.\./x' in '' is not a path"),
    "an artifact to elsewhere": (entry("artifact", path="x", to="../y"), r"artifact 'x' in '\.\./y' is not a path"),
    "time": ({"records": (Record(1, "status", -1, RUN.records[0].data),)}, "times must be ms, in order"),
    "an end before the start": ({"records": (*RUN.records, replace(RUN.records[0], ms=5))}, "must be ms, in order"),
    "a dataset": (entry("dataset", name="x"), "a dataset must be text for name, digest"),
}


@pytest.mark.parametrize("what", BAD_RECORDS)
def test_hostile_records_are_refused_with_nothing_written(tmp_path: Path, what: str) -> None:
    change, match = BAD_RECORDS[what]
    refused(tar_of(tmp_path / "evil.tar.gz", members(SWEEP, replace(RUN, **change))), tmp_path, match=match)


@pytest.mark.parametrize("name", ["../../evil", "a/b", "..", "", "a" * 101, ".hidden"])
def test_a_sweep_that_is_named_like_a_path_is_refused(tmp_path: Path, name: str) -> None:
    """Reports go to a folder of that name."""
    tagged = replace(SWEEP, records=journal(tags(sweep=name, role="sweep")))
    refused(tar_of(tmp_path / "evil.tar.gz", members(tagged, RUN)), tmp_path, match="a folder is named after it")


def test_what_a_path_may_be() -> None:
    for path in ("a", "images/feature_maps~01_conv1+step+0.png", "figures/a (1).svg", "x/y/z.tar.gz", "sch\u00f6n"):
        assert not broken_rule(path)
    for path in ("", "/", "a/", "a//b", ".", "..", "a/.", "~/../x", "a\nb", "a:b", "a*b", "x" * 201):
        assert broken_rule(path), path
    assert clashing({"sch\u00f6n": 1, "scho\u0308n": 1})
    assert not clashing({"a/b": 1, "a/c": 1, "ab": 1})


def test_a_record_comes_back_from_json_as_it_was() -> None:
    values = {"a": "inf", "b": "-inf", "c": 0.1, "d": 5e-324, "e": "nan", "f": -0.0, "g": 1 << 52}
    odd = replace(RUN, **entry("metrics", step=-1, values=values))
    assert unpack(json.loads(odd.to_json()), at="here") == odd
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="must be a number"):
            unpack(json.loads(replace(RUN, **entry("metrics", step=0, values={"a": number})).to_json()), at="here")


def test_a_power_cut_while_writing_leaves_no_half_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError("no space left on device")

    page = tmp_path / "page"
    page.write_bytes(PAGE)
    monkeypatch.setattr("os.link", fail)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path / "a.zip", {}, {SHA: page}, limits=Limits(), place=tmp_path)
    assert list(tmp_path.iterdir()) == [page]


def test_where_there_are_no_hard_links_an_archive_is_written_all_the_same(
    swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / ".import-dead").mkdir()
    (tmp_path / ".import-dead" / "half of an archive").write_text("left by an export that was killed")
    export_sweep(store_of(swept.results), "ours", tmp_path / "a.zip", results=swept.results)
    assert (tmp_path / "a.zip").read_bytes() == swept.archives[".zip"].read_bytes()
    with pytest.raises(ValueError, match=r"a\.zip exists already"):
        export_sweep(store_of(swept.results), "ours", tmp_path / "a.zip", results=swept.results)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_nothing_of_an_archive_says_whose_a_run_is(tmp_path: Path, there: Path) -> None:
    """Its uid is that of a run here, its tags claim to be one; the run here does not notice."""
    results, store = there, store_of(there)
    with open_run(results / "runs" / "mine", RunIdentity(RUN.signature, "mine")) as run:
        run.metrics({"test/acc": 0.586}, step=1)
    assert sync(store, results).complete
    mine = find_run(store, results=results)
    claims = tags(
        uid=mine.tags["stridelab.uid"], role="sweep", status="finished", imported="", sent="9", reproduces="x"
    )
    claims[1].update({"mlflow.parentRunId": mine.run_id, "mlflow.user": "root", "anything": "x", "stridelab.seed": "0"})
    evil = replace(
        RUN, records=journal(claims, ("metrics", {"step": 1, "values": {"test/acc": 0.012}}), status="FAILED")
    )
    evil = replace(evil, records=(*evil.records[:-1], replace(evil.records[-1], ms=1 << 52)), files={"page.html": SHA})
    done = import_sweep(tar_of(tmp_path / "a.tar.gz", members(listing(evil), evil)), store, results)
    assert done.sent.complete
    (theirs,) = find_sweep(store, done.run_id, results=results).runs
    assert theirs.run_id != mine.run_id
    assert (theirs.status, theirs.tags["stridelab.status"]) == ("FAILED", "failed")
    assert theirs.end_ms is not None
    assert theirs.end_ms < 4_000_000_000_000, "no time to come"
    assert theirs.tags["stridelab.uid"] not in (mine.tags["stridelab.uid"], RUN.uid)
    assert theirs.tags["stridelab.seed"] == "0"
    assert not {"stridelab.reproduces", "mlflow.user", "anything"} & set(theirs.tags)
    for where in (results, None):
        assert find_run(store, RUN.signature, results=where).history("test/acc") == [(1, 0.586)]
        assert find_run(store, mine.run_id, results=where).history("test/acc") == [(1, 0.586)]


def test_an_archive_with_a_uid_of_ours_brings_nothing_in(tmp_path: Path, there: Path) -> None:
    with open_run(there / "runs" / "mine", RunIdentity(RUN.signature, "mine")) as run:
        run.metrics({"test/acc": 0.586}, step=1)
    uid = json.loads((there / "runs" / "mine" / "run.json").read_text())["uid"]
    evil = replace(RUN, uid=uid)
    done = import_sweep(tar_of(tmp_path / "a.tar.gz", members(listing(evil), evil)), store_of(there), there)
    assert (len(done.new), done.num_known) == (1, 1)
    assert find_run(store_of(there)).history("test/acc") == [(1, 0.586)]


def png(width: int, height: int) -> bytes:
    """Whose pixels would take width x height / 8 bytes, were they there."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(4000))), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


IMAGES = {
    "a bomb that Pillow refuses": png(40_000, 40_000),
    "a bomb that Pillow takes": png(13_000, 13_000),
    "wider than WebP can be": png(20_000, 1),
    "cut off": png(64, 64)[:45],
    "a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n",
    "nothing": b"",
}


def test_hostile_images_are_not_shown_and_hold_up_nothing(tmp_path: Path, there: Path, caplog: Any) -> None:
    entries = [
        ("image", {"key": "map", "step": step, "file": f"images/map+step+{step}.png"}) for step in range(len(IMAGES))
    ]
    shas = {hashlib.sha256(content).hexdigest(): content for content in IMAGES.values()}
    paths = {f"images/map+step+{step}.png": sha for step, sha in enumerate(shas)}
    run = replace(RUN, records=journal(*entries), files=paths)
    path = tar_of(tmp_path / "a.tar.gz", members(listing(run), run, files=shas))
    done = import_sweep(path, store_of(there), there)
    assert done.sent.complete
    assert caplog.text.count("cannot be shown in MLflow") == len(IMAGES)
    assert images_of(find_run(store_of(there))) == []


def test_two_exports_to_one_file_leave_one_sound_file(swept: Swept, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def export(_: int) -> str:
        try:
            export_sweep(store_of(swept.results), "ours", tmp_path / "one.zip", results=swept.results)
        except ValueError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(export, range(4)))
    assert said[0] == ""
    assert all("one.zip exists already" in one for one in said[1:])
    assert (tmp_path / "one.zip").read_bytes() == swept.archives[".zip"].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["one.zip"]


def test_an_import_that_was_killed_before_the_store_had_it_is_completed(
    swept: Swept, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    store, path = store_of(there), swept.archives[".zip"]
    with monkeypatch.context() as patch:
        patch.setattr("stridelab.tracking.transfer.send_folders", killed)
        with pytest.raises(KeyboardInterrupt):
            import_sweep(path, store, there)
    again = import_sweep(path, store, there)
    assert (again.new, again.num_known, again.sent.complete) == ((), 4, True)
    assert len(find_sweep(store, again.run_id).runs) == 3


def test_an_archive_of_a_million_points_is_refused_within_bounds(tmp_path: Path) -> None:
    """In one record, in many, and in many runs."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = tuple(("metrics", {"step": step, "values": {f"m{n}": 1.0 for n in range(100)}}) for step in range(2000))
    runs = [replace(RUN, uid=f"{number:032x}", records=journal(*many), files={}) for number in range(5)]
    match = r"[\d,]+ values of metrics; 500,000 are the most"
    refused(tar_of(tmp_path / "runs.tar.gz", members(SWEEP, *runs, files={"": b""})[:-1]), tmp_path, match=match)
    wide = ("metrics", {"step": 1, "values": {f"metric{number}": 1.0 for number in range(1_000_000)}})
    large = replace(RUN, records=journal(wide), files={})
    refused(tar_of(tmp_path / "wide.tar.gz", members(SWEEP, large)[:-1]), tmp_path, match="a record are the most")
    del wide, large, many, runs
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 900_000, (
        "KiB, with what this test itself holds"
    )
