"""A run as it travels: what the store knows of it, as plain data that is checked when it arrives."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from stridelab import names

from .journal import Record, pack_number
from .status import TERMINAL

IMPORTED = "stridelab.imported"
"""SHA-256 of the archive that a run came in."""
UID_RULE = re.compile(r"[0-9a-f]{32}", re.ASCII)
SHA_RULE = re.compile(r"[0-9a-f]{64}", re.ASCII)
SWEEP_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
"""Reports are kept in a folder of a sweep's name."""
PART_RULE = re.compile(r"[\w.+~=,@() -]{1,200}")
"""One part of an artifact's path."""
MAX_DEPTH = 10
MAX_NAME, MAX_TEXT = 250, 8000
"""MLflow's: characters of a name; of a tag or parameter."""
DATASET_KEYS = ("name", "digest", "source", "licence", "context")
CUT_OFF = "still running, or cut off, when it was exported"

Point = tuple[int, float, int]
"""(step, value, ms)"""


@dataclass(frozen=True)
class Portable:
    uid: str
    signature: str
    name: str
    role: str
    status: str
    reason: str
    start_ms: int
    end_ms: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, Sequence[Point]]
    datasets: Sequence[Mapping[str, str]]
    artifacts: Mapping[str, str]
    """Path among its artifacts -> SHA-256."""

    @property
    def key(self) -> str:
        """What its record and its folder are called: made from the uid, never a name that came along."""
        return hashlib.sha256(self.uid.encode()).hexdigest()[:16]

    def to_json(self) -> bytes:
        content = asdict(self)
        content["metrics"] = {
            key: [(step, pack_number(value), ms) for step, value, ms in points] for key, points in self.metrics.items()
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse(content: Any, *, at: str) -> Portable:
    """From JSON that anybody may have written. ValueError with the place and the rule."""
    known = [field.name for field in fields(Portable)]
    _require(isinstance(content, dict) and sorted(content) == sorted(known), at, f"must hold {', '.join(known)}")
    take = _Taker(content, at)
    run = Portable(
        uid=take.text("uid", UID_RULE.fullmatch, "32 hex digits"),
        signature=take.text("signature", names.SIGNATURE_RULE.fullmatch, "a signature"),
        name=take.text("name", _is_name, f"1 to {MAX_NAME} printable characters"),
        role=take.text("role", lambda value: value in names.ROLES, f"one of {', '.join(names.ROLES)}"),
        status=take.text("status", lambda value: value in TERMINAL, f"one of {', '.join(TERMINAL)}"),
        reason=take.text("reason", _is_text, f"text of at most {MAX_TEXT} characters"),
        start_ms=take.time("start_ms"),
        end_ms=take.time("end_ms"),
        params=take.texts("params", what="parameter"),
        tags=take.texts("tags", what="tag"),
        metrics=take.metrics(),
        datasets=take.datasets(),
        artifacts=take.artifacts(),
    )
    _require(run.start_ms <= run.end_ms, at, "ends before it starts")
    if run.role == "sweep":
        named = [run.name, run.tags.get(names.SWEEP, run.name)]
        rule = "has a name that is not letters, digits, '.', '_' and '-', 100 at most: a folder is named after it"
        _require(all(SWEEP_RULE.fullmatch(name) for name in named), at, rule)
    return run


@dataclass(frozen=True)
class _Taker:
    content: Mapping[str, Any]
    at: str

    def text(self, key: str, fits: Callable[[str], object], rule: str) -> str:
        value = self.content[key]
        _require(isinstance(value, str) and bool(fits(value)), self.at, f"{key} must be {rule}")
        return str(value)

    def time(self, key: str) -> int:
        value = self.content[key]
        _require(_is_whole(value) and 0 <= value < 1 << 53, self.at, f"{key} must be ms since 1970")
        return int(value)

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.content[key]
        _require(isinstance(value, dict), self.at, f"{key} must be a mapping")
        return dict(value)

    def texts(self, key: str, *, what: str) -> Mapping[str, str]:
        found = self.mapping(key)
        for name, value in found.items():
            self.named(name, what=what)
            _require(_is_text(value), self.at, f"{what} {name!r} must be text of at most {MAX_TEXT} characters")
            ours = name.startswith("stridelab.") and name != names.REASON
            _require(not ours or str(value).isprintable(), self.at, f"{what} {name!r} must be printable")
        return found

    def named(self, name: str, *, what: str) -> None:
        try:
            names.check_key(name, what=what)
        except ValueError as error:
            _require(False, self.at, f"holds a {error}")

    def metrics(self) -> Mapping[str, Sequence[Point]]:
        found = self.mapping("metrics")
        for name, points in found.items():
            self.named(name, what="metric")
            _require(isinstance(points, list), self.at, f"metric {name!r} must be a list")
            found[name] = [self.point(name, point) for point in points]  # type: ignore[index]
        return found

    def point(self, name: str, point: Any) -> Point:
        rule = f"metric {name!r} must be [step, value, ms] at every step"
        _require(isinstance(point, list) and len(point) == 3, self.at, rule)
        step, value, ms = point
        is_value = isinstance(value, float) or value in ("nan", "inf", "-inf")
        is_value = is_value or (_is_whole(value) and abs(value) < 1 << 53)
        _require(_is_whole(step) and abs(step) < 1 << 53 and is_value, self.at, rule)
        _require(_is_whole(ms) and 0 <= ms < 1 << 53, self.at, rule)
        return step, float(value), ms

    def datasets(self) -> Sequence[Mapping[str, str]]:
        found = self.content["datasets"]
        rule = f"datasets must be a list of {', '.join(DATASET_KEYS)}"
        _require(isinstance(found, list), self.at, rule)
        for one in found:
            _require(isinstance(one, dict) and sorted(one) == sorted(DATASET_KEYS), self.at, rule)
            _require(all(_is_text(value) for value in one.values()), self.at, rule)
        return list(found)

    def artifacts(self) -> Mapping[str, str]:
        found = self.mapping("artifacts")
        for path, sha in found.items():
            if rule := broken_rule(path):
                _require(False, self.at, f"artifact {path[:120]!r} {rule}")
            _require(
                isinstance(sha, str) and SHA_RULE.fullmatch(sha) is not None,
                self.at,
                f"artifact {path!r} must come with the SHA-256 of its file",
            )
        if twice := clashing(found):
            _require(False, self.at, f"artifact {twice[:120]!r} is at, above or below another of the same name")
        return found


def broken_rule(path: str) -> str:
    """Which rule an artifact's path breaks; empty when it stays inside any folder, on any system."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "." in parts or "" in parts:
        return "is not a path inside a run's artifacts (no '/' in front, no '.', '..' or empty part)"
    if not all(PART_RULE.fullmatch(part) for part in parts) or len(parts) > MAX_DEPTH:
        return (
            f"is not made of at most {MAX_DEPTH} parts of 1 to 200 letters, digits, spaces and the characters "
            "'_ . + ~ = , @ ( ) -'"
        )
    return ""


def clashing(paths: Mapping[str, object]) -> str:
    """A path that is another's folder, or that a file system may take for another; empty when there is none."""
    seen: set[str] = set()
    plain = {path: unicodedata.normalize("NFC", path).casefold() for path in paths}
    for path, one in plain.items():
        if one in seen:
            return path
        seen.add(one)
    for path, one in plain.items():
        parts = one.split("/")
        if any("/".join(parts[:depth]) in seen for depth in range(1, len(parts))):
            return path
    return ""


def journal_of(run: Portable, *, parent: str | None, folder: str) -> list[Record]:
    """What its journal would hold had it been recorded here, with artifacts in `folder` of the run's folder; times are
    its own."""
    moments: dict[tuple[int, int], dict[str, float | str]] = {}
    for key, points in run.metrics.items():
        for step, value, ms in points:
            moments.setdefault((min(max(ms, run.start_ms), run.end_ms), step), {})[key] = pack_number(value)
    start = {"status": "RUNNING", "reason": "", "uid": run.uid, "parent": parent, "pid": 0}
    timed: list[tuple[str, int, dict[str, Any]]] = [
        ("status", run.start_ms, start),
        ("tags", run.start_ms, dict(run.tags)),
        ("params", run.start_ms, dict(run.params)),
    ]
    timed += [("dataset", run.start_ms, dict(dataset)) for dataset in run.datasets]
    timed += [("metrics", ms, {"step": step, "values": moments[ms, step]}) for ms, step in sorted(moments)]
    for path in sorted(run.artifacts):
        timed.append(("artifact", run.end_ms, {"path": f"{folder}/{path}", "to": path.rpartition("/")[0]}))
    timed.append(("status", run.end_ms, {"status": run.status, "reason": run.reason}))
    return [Record(number, kind, ms, data) for number, (kind, ms, data) in enumerate(timed, start=1)]


def _require(fits: bool, at: str, rule: str) -> None:
    if not fits:
        raise ValueError(f"{at} {rule}. Nothing was imported.")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    """As text that every database takes, too: no NUL, no lone surrogate."""
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        return False
    return not any(0xD800 <= ord(character) < 0xE000 for character in value)


def _is_name(value: str) -> bool:
    return 0 < len(value) <= MAX_NAME and value.isprintable()
