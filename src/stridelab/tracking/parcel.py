"""A run's folder as it travels: its identity, its journal and the files that the journal names, as plain data that is
checked when it arrives."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

from stridelab import names
from stridelab.system.files import sha256_of, write_json_atomic

from . import archive
from .archive import Limits
from .artifact_paths import broken_rule, clashing
from .images import file_name
from .journal import JOURNAL, TERMINAL, Record, attached, encode, merged, read
from .run import IDENTITY, IDENTITY_KEYS, read_identity
from .status import FAILED, FINISHED, KILLED, STATUSES

UID_RULE = re.compile(r"[0-9a-f]{32}", re.ASCII)
SHA_RULE = re.compile(r"[0-9a-f]{64}", re.ASCII)
MAX_NAME, MAX_TEXT, MAX_WHOLE = 250, 8000, 1 << 53
"""MLflow's limits of a name, and of a tag or parameter; what JSON keeps exactly."""
SMALL_BYTES = 1 << 16
CUT_OFF = "still running, or cut off, when it was exported"


@dataclass(frozen=True)
class Parcel:
    uid: str
    signature: str
    name: str
    role: str
    records: tuple[Record, ...]
    files: Mapping[str, str]
    """Path in the run's folder -> SHA-256."""

    @property
    def key(self) -> str:
        """What its record and its folder are called: made from the uid, never a name that came along."""
        return hashlib.sha256(self.uid.encode()).hexdigest()[:16]

    @property
    def tags(self) -> dict[str, str]:
        return merged(self.records, "tags")

    @property
    def status(self) -> str:
        return str([one.data["status"] for one in self.records if one.kind == "status"][-1])

    @property
    def num_points(self) -> int:
        return sum(len(one.data["values"]) for one in self.records if one.kind == "metrics")

    def to_json(self) -> bytes:
        content = {key: getattr(self, key) for key in IDENTITY_KEYS}
        records = [[one.kind, one.ms, one.data] for one in self.records]
        return json.dumps(content | {"journal": records, "files": self.files}, separators=(",", ":")).encode()

    def write(self, folder: Path, source: Path, *, parent: str | None) -> int:
        """Make the run's folder; `source` holds the files by their SHA-256. The bytes of its journal."""
        for path, sha in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes((source / sha).read_bytes())
        folder.mkdir(parents=True, exist_ok=True)
        tags = self.tags
        identity = {
            **{key: getattr(self, key) for key in IDENTITY_KEYS},
            "sweep": tags.get(names.SWEEP, ""),
            "variant": tags.get(names.VARIANT, ""),
            "parent": parent,
            "params": merged(self.records, "params"),
            "tags": tags,
        }
        write_json_atomic(folder / IDENTITY, identity)
        return (folder / JOURNAL).write_bytes(b"".join(map(encode, self.records)))


def pack(folder: Path, files: dict[str, Path]) -> Parcel:
    """The run in `folder`; its files are added to `files` by their SHA-256. ValueError for a file that could not be
    unpacked everywhere."""
    identity, records, found = read_identity(folder), read(folder / JOURNAL), dict[str, str]()
    if not identity or not records:
        raise ValueError(f"{folder} holds no run.")
    for path in dict.fromkeys(_named_files(folder, records)):
        if rule := broken_rule(path):
            raise ValueError(f"run {identity['name']}: artifact {path!r} {rule}.")
        found[path] = sha = sha256_of(folder / path)
        files.setdefault(sha, folder / path)
    if twice := clashing(found):
        raise ValueError(f"run {identity['name']}: two artifacts would be one file elsewhere: {twice!r}.")
    return Parcel(**{key: identity[key] for key in IDENTITY_KEYS}, records=tuple(records), files=found)


def _named_files(folder: Path, records: list[Record]) -> Iterator[str]:
    """Those that are still there of the images and artifacts that a journal names."""
    for one in records:
        path = folder / one.data.get("file", one.data.get("path", "")) if one.kind in ("image", "artifact") else folder
        if path != folder:
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            yield from (one.relative_to(folder).as_posix() for one in inside if one.is_file())


def pack_folder(folder: Path, to: Path) -> None:
    """What makes one run's folder again, beside its artifacts: of these, the small ones come along, for fewer
    downloads; the large ones are not stored twice."""
    files: dict[str, Path] = {}
    parcel = pack(folder, files)
    for sha in attached_files(parcel).values():
        if files[sha].stat().st_size > SMALL_BYTES:
            files.pop(sha)
    archive.write(to, {f"runs/{parcel.key}.json": parcel.to_json()}, files, limits=Limits(), place=to.parent)


def attached_files(parcel: Parcel) -> dict[str, str]:
    """Of the files that are attached to the run, name among its artifacts -> SHA-256."""
    return {
        str(PurePosixPath(name, PurePosixPath(path).relative_to(place))): sha
        for name, place in attached(parcel.records).items()
        for path, sha in parcel.files.items()
        if path == place or path.startswith(f"{place}/")
    }


def unpack(content: Any, *, at: str) -> Parcel:
    """From JSON that anybody may have written. ValueError with the place and the rule."""
    known = (*IDENTITY_KEYS, "journal", "files")
    _require(isinstance(content, dict) and sorted(content) == sorted(known), at, f"must hold {', '.join(known)}")
    uid, signature, name, role = (content[key] for key in IDENTITY_KEYS)
    _require(_fits(uid, UID_RULE), at, "uid must be 32 hex digits")
    _require(_fits(signature, names.SIGNATURE_RULE), at, "signature must be a signature")
    rule = f"name must be 1 to {MAX_NAME} printable characters"
    _require(_is_text(name) and 0 < len(name) <= MAX_NAME and name.isprintable(), at, rule)
    _require(role in names.ROLES, at, f"role must be one of {', '.join(names.ROLES)}")
    _check_files(content["files"], at)
    rule = "journal must be a list of [kind, ms, data]"
    _require(isinstance(content["journal"], list), at, rule)
    records: list[Record] = []
    for entry in content["journal"]:
        _require(isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], dict), at, rule)
        kind, ms, data = entry
        _require(_is_whole(ms) and ms >= (records[-1].ms if records else 0), at, "times must be ms, in order")
        _check_record(kind, data, at)
        records.append(Record(len(records) + 1, kind, ms, data))
    _require(bool(records) and records[0].kind == "status", at, "journal must begin with a status")
    parcel = Parcel(uid, signature, name, role, tuple(records), content["files"])
    if role == "sweep":
        rule = "has a name that is not letters, digits, '.', '_' and '-', 100 at most: a folder is named after it"
        _require(all(names.PLAIN_NAME.fullmatch(one) for one in (name, parcel.tags.get(names.SWEEP, name))), at, rule)
    return parcel


def _check_files(files: Any, at: str) -> None:
    _require(isinstance(files, dict), at, "files must be a mapping")
    for path, sha in files.items():
        if rule := broken_rule(path):
            _require(False, at, f"artifact {path[:120]!r} {rule}")
        _require(_fits(sha, SHA_RULE), at, f"artifact {path!r} must come with the SHA-256 of its file")
    if twice := clashing(files):
        _require(False, at, f"artifact {twice[:120]!r} is at, above or below another of the same name")


def _check_record(kind: Any, data: dict[str, Any], at: str) -> None:
    match kind, data:
        case "metrics", {"step": step, "values": dict(values)}:
            for name, value in values.items():
                _check_key(name, "metric", at)
                _require(_is_number(value), at, f"metric {name!r} must be a number or 'nan', 'inf', '-inf'")
            _require(_is_whole(step) and len(data) == 2, at, "a step must be a whole number")
        case (("tags" | "params"), _):
            what = {"tags": "tag", "params": "parameter"}[kind]
            for name, value in data.items():
                _check_key(name, what, at)
                _require(_is_text(value), at, f"{what} {name!r} must be text of at most {MAX_TEXT} characters")
                ours = name.startswith("stridelab.") and name != names.REASON
                _require(not ours or value.isprintable(), at, f"{what} {name!r} must be printable")
        case "image", {"key": str(key), "step": step, "file": file}:
            _check_key(key, "image", at)
            fits = _is_whole(step) and str(file).endswith(f"images/{file_name(key, step=step)}")
            _require(fits and not broken_rule(str(file)), at, f"image {key!r} must be in a file of its key and step")
        case "artifact", {"path": str(path), "to": str(to)}:
            rule = broken_rule(path) or (broken_rule(to) if to else "")
            _require(not rule, at, f"artifact {path[:120]!r} in {to[:120]!r} {rule}")
        case "dataset", _:
            keys = ("name", "digest", "source", "licence", "context")
            rule = f"a dataset must be text for {', '.join(keys)}"
            _require(sorted(data) == sorted(keys) and all(map(_is_text, data.values())), at, rule)
        case "status", {"status": status, "reason": reason}:
            _require(status in ("RUNNING", *TERMINAL), at, f"status must be RUNNING or one of {', '.join(TERMINAL)}")
            _require(_is_text(reason), at, f"reason must be text of at most {MAX_TEXT} characters")
        case _:
            _require(False, at, f"journal holds an entry that is none: {str(kind)[:40]!r} with {sorted(data)[:5]}")


def afresh(parcel: Parcel, *, uid: str, parent: str | None, signature: str, imported: str) -> Parcel:
    """As a run that came from elsewhere: what says whose it is and how it ended is made here, and of its tags those
    that are listed come along. Its files lie apart from those that mark a run of this machine as finished."""
    now = time.time_ns() // 1_000_000
    first = {"status": "RUNNING", "reason": "", "uid": uid, "parent": parent, "pid": 0}
    ours = {names.SIGNATURE: signature, names.ROLE: parcel.role, names.IMPORTED: imported}
    entries: list[tuple[str, int, dict[str, Any]]] = [("status", parcel.records[0].ms, first)]
    for one in parcel.records[1:]:
        data = one.data
        if one.kind == "tags":
            data = {key: value for key, value in data.items() if key in names.FROM_OUTSIDE}
        elif one.kind == "status":
            data = {"status": data["status"], "reason": data["reason"]}
        elif one.kind in ("image", "artifact"):
            key = "file" if one.kind == "image" else "path"
            data = data | {key: f"artifacts/{data[key]}"}
        if data:
            entries.append((one.kind, one.ms, data))
    last = entries[-1][1]
    if parcel.status not in TERMINAL:
        entries.append(("status", last, {"status": "KILLED", "reason": CUT_OFF}))
    ended = next(data["status"] for kind, _, data in reversed(entries) if kind == "status")
    entries.insert(1, ("tags", entries[0][1], ours))
    entries.append(("tags", last, ours | {names.STATUS: _status_word(ended, parcel.tags.get(names.STATUS, ""))}))
    records = [Record(number, kind, min(ms, now), data) for number, (kind, ms, data) in enumerate(entries, start=1)]
    files = {f"artifacts/{path}": sha for path, sha in parcel.files.items()}
    return Parcel(uid, signature, parcel.name, parcel.role, tuple(records), files)


def _status_word(status: str, said: str) -> str:
    """The one that came along, where it fits the status."""
    if status == "FAILED":
        return said if said in STATUSES and said not in (FINISHED, KILLED) else FAILED
    return FINISHED if status == "FINISHED" else KILLED


def _require(fits: bool, at: str, rule: str) -> None:
    if not fits:
        raise ValueError(f"{at} {rule}. Nothing was imported.")


def _check_key(name: str, what: str, at: str) -> None:
    try:
        names.check_key(name, what=what)
    except ValueError as error:
        _require(False, at, f"holds a {error}")


def _fits(value: object, rule: re.Pattern[str]) -> bool:
    return isinstance(value, str) and rule.fullmatch(value) is not None


def _is_whole(value: object) -> bool:
    return type(value) is int and abs(value) < MAX_WHOLE


def _is_number(value: object) -> bool:
    """JSON's NaN and infinities are none: the journal spells them."""
    return _is_whole(value) or (isinstance(value, float) and isfinite(value)) or value in ("nan", "inf", "-inf")


def _is_text(value: object) -> bool:
    """As text that every database takes, too: no NUL, no lone surrogate."""
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        return False
    return not any(0xD800 <= ord(character) < 0xE000 for character in value)
