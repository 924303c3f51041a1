"""Record one run: in microseconds to the journal in its folder; `Mirror` takes it to MLflow."""

from __future__ import annotations

import logging
import operator
import os
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from stridelab import names
from stridelab.system.files import read_json, write_json_atomic

from .journal import JOURNAL, TERMINAL, Journal, last, pack_number
from .settings import redact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDENTITY = "run.json"
IDENTITY_KEYS = ("uid", "signature", "name", "role")
MAX_REASON_LENGTH = 500
MEMBERS_PER_TAG = 100
"""With their uids, 50 characters each; a tag holds 8,000."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunIdentity:
    signature: str
    """Hash of what can change the result; a sweep has one of its own."""
    name: str
    """What people read, e.g. `1-2-2 valid s0`."""
    role: str = "run"
    """run | sweep"""
    sweep: str = ""
    """Name of the sweep that it belongs to, or is; empty: it stands alone."""
    variant: str = ""
    """The stride and padding setting, the same for every seed."""
    parent: str | None = None
    """Signature of the sweep's run."""
    params: Mapping[str, object] = field(default_factory=dict)
    """What varies in the sweep. MLflow's UI prints all of them above every image: at most about eight."""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for signature in (self.signature, self.parent):
            if signature is not None and not names.SIGNATURE_RULE.fullmatch(signature):
                raise ValueError(f"signature={signature!r} must be 1 to 200 letters, digits, '_', '-' or '.'.")
        if self.role not in names.ROLES:
            raise ValueError(f"role={self.role!r} must be one of {', '.join(names.ROLES)}.")

    def all_tags(self) -> dict[str, str]:
        known = {
            names.SIGNATURE: self.signature,
            names.ROLE: self.role,
            names.SWEEP: self.sweep,
            names.VARIANT: self.variant,
        }
        return {key: value for key, value in known.items() if value} | dict(self.tags)


def member_tags(words: Sequence[str]) -> dict[str, str]:
    size = MEMBERS_PER_TAG if any(":" in word for word in words) else 2 * MEMBERS_PER_TAG
    parts = [words[i : i + size] for i in range(0, len(words), size)]
    return {f"{names.MEMBERS}.{i}" if i else names.MEMBERS: ",".join(part) for i, part in enumerate(parts)}


class Dataset(Protocol):
    """What is asked of `stridelab.data.DataSpec`."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def source(self) -> str: ...


class Run:
    """A run that is being recorded; made by `open_run`. What an earlier attempt recorded stays: a metric has
    one value a step, the first."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder = folder
        self._journal = journal
        self._points: set[tuple[str, int]] = set()
        self._images: set[tuple[str, int]] = set()
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        for record in journal.earlier:
            match record.kind, record.data:
                case "metrics", {"step": step, "values": values}:
                    self._points.update((key, step) for key in values)
                case "image", {"key": key, "step": step}:
                    self._images.add((key, step))
                case "params", values:
                    self._params |= values
                case "tags", values:
                    self._tags |= values

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """NaN and infinities are kept."""
        step = operator.index(step)
        new = {key: pack_number(float(value)) for key, value in values.items() if (key, step) not in self._points}
        for key in new:
            names.check_key(key, what="metric")
        if new:
            self._journal.append("metrics", {"step": step, "values": new})
            self._points.update((key, step) for key in new)

    def params(self, values: Mapping[str, object]) -> None:
        """MLflow allows no change: a parameter keeps its first value, and a warning says so."""
        texts = {names.check_key(key, what="parameter"): clean(value) for key, value in values.items()}
        for key, text in texts.items():
            if self._params.get(key, text) != text:
                log.warning("parameter %s stays %r and does not become %r.", key, self._params[key], text)
        self._record("params", {key: text for key, text in texts.items() if key not in self._params}, self._params)

    def tags(self, values: Mapping[str, str]) -> None:
        """The last value counts."""
        texts = {names.check_key(key, what="tag"): clean(value) for key, value in values.items()}
        self._record("tags", {key: text for key, text in texts.items() if self._tags.get(key) != text}, self._tags)

    def image(self, key: str, array: NDArray[np.uint8], *, step: int) -> None:
        """`array`: uint8, height x width (grey) or height x width x 3; shown by key and step in the UI."""
        from .images import file_name, save_png

        step = operator.index(step)
        names.check_key(key, what="image")
        if (key, step) in self._images:
            return
        self.confirm()
        path = self.folder / "images" / file_name(key, step=step)
        path.parent.mkdir(exist_ok=True)
        save_png(path, array)
        self._journal.append("image", {"key": key, "step": step, "file": self._inside(path)})
        self._images.add((key, step))

    def artifact(self, path: Path, *, to: str = "") -> None:
        """Attach a file or folder, under the folder `to` of the run's artifacts. What lies outside the run's
        folder is copied into it first; what lies inside must stay until it is mirrored."""
        if to and (PurePosixPath(to).is_absolute() or {"..", "."} & set(to.split("/")) or "\\" in to):
            raise ValueError(f"to={to!r} must be a folder among the run's artifacts, without '.' and '..'.")
        source = Path(path).resolve(strict=True)
        if not source.is_relative_to(self.folder):
            source = _copy(source, self.folder / "artifacts" / to / Path(path).name)
        self._journal.append("artifact", {"path": self._inside(source), "to": to})

    def dataset(self, spec: Dataset, context: str = "train") -> None:
        """`spec.digest` is ours, over all the data (MLflow's own covers three images of CIFAR-10)."""
        self._journal.append(
            "dataset",
            {
                "name": spec.name,
                "digest": spec.digest,
                "source": spec.source,
                "licence": getattr(spec, "licence", ""),
                "context": context,
            },
        )

    def members(self, signatures: Sequence[str], *, uids: Mapping[str, str] | None = None) -> None:
        """Of a sweep: which runs belong to it, in order, those included that another sweep has trained. `uids`, by
        signature, of those that have begun: nothing else then ever stands for them."""
        known = uids or {}
        tags = member_tags([f"{one}:{known[one]}" if one in known else one for one in signatures])
        self.tags(tags | {old: "" for old in self._tags if old.startswith(names.MEMBERS) and old not in tags})

    def confirm(self) -> None:
        """Before a file of the run is written: BlockingIOError when a later attempt of this job has taken it over."""
        self._journal.confirm()

    def _record(self, kind: str, new: Mapping[str, str], known: dict[str, str]) -> None:
        if new:
            self._journal.append(kind, new)
            known |= new

    def _inside(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            self._journal.append("status", {"status": "FINISHED", "reason": ""}, durable=True)
            return
        self.confirm()
        path = self.folder / "traceback.txt"
        path.write_text(redact(clean("".join(traceback.format_exception(error)))), encoding="utf-8")
        self.artifact(path)
        killed = isinstance(error, KeyboardInterrupt | SystemExit)
        status = {"status": "KILLED" if killed else "FAILED", "reason": describe(error)}
        self._journal.append("status", status, durable=True)


@contextmanager
def open_run(folder: Path, identity: RunIdentity) -> Iterator[Run]:
    """Record a run in `folder`, or go on with the one in it. Leaving the block records how it ended: FINISHED,
    FAILED with the exception's text, or KILLED (KeyboardInterrupt, SystemExit). BlockingIOError when another
    process is writing it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    with closing(Journal(folder / JOURNAL)) as journal:
        run = _begin(folder, journal, identity)
        try:
            yield run
        except BaseException as error:
            try:
                run._end(error)
            except OSError as second:
                error.add_note(f"and its end could not be recorded: {second}")
            raise
        run._end(None)


@contextmanager
def amend(folder: Path) -> Iterator[Run]:
    """Record more of a run that has ended (measures of probes, benchmarks), which stays as it ended: the same status,
    the same end. The store has it after the next `sync` or `Mirror`. ValueError when it has not ended;
    BlockingIOError when another process is writing it."""
    folder = folder.resolve()
    record = last(folder / JOURNAL, "status")
    if record is None or record.data["status"] not in TERMINAL:
        raise ValueError(f"{folder} holds no run that has ended: only those are amended.")
    with closing(Journal(folder / JOURNAL)) as journal:
        yield Run(folder, journal)


def read_identity(folder: Path) -> dict[str, Any]:
    """Of the run in a folder; {} where the file is absent, damaged or does not tell who it is."""
    found = read_json(folder / IDENTITY)
    told = isinstance(found, dict) and all(isinstance(found.get(key), str) for key in IDENTITY_KEYS)
    return found if told and isinstance(found.get("tags", {}), dict) else {}


def _begin(folder: Path, journal: Journal, identity: RunIdentity) -> Run:
    known = read_identity(folder)
    if known.get("signature", identity.signature) != identity.signature:
        raise ValueError(f"{folder} holds the run {known['signature']}, not {identity.signature}.")
    begun = [record.data["uid"] for record in journal.earlier if "uid" in record.data]
    uid = (begun or [known.get("uid")])[0] or uuid4().hex
    texts = {
        "params": {key: str(value) for key, value in identity.params.items()},
        "tags": dict(identity.tags),
    }
    write_json_atomic(folder / IDENTITY, {"uid": uid} | asdict(identity) | texts)
    start = {"status": "RUNNING", "reason": "", "uid": uid, "parent": identity.parent, "pid": os.getpid()}
    journal.append("status", start, durable=True)
    run = Run(folder, journal)
    run.tags(identity.all_tags())
    run.params(identity.params)
    return run


def clean(value: object) -> str:
    """As text that every database takes: no NUL, no lone surrogate (undecodable file names bring them)."""
    return str(value).replace("\0", "").encode(errors="replace").decode()


def describe(error: BaseException) -> str:
    """One line, such as `ValueError: stride must be positive`."""
    text = " ".join(redact(clean(error)).split())
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:MAX_REASON_LENGTH]


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        return Path(shutil.copytree(source, target, dirs_exist_ok=True))
    return Path(shutil.copyfile(source, target))
