"""The journal: what was appended comes back, whatever happens to the last line; damage elsewhere is never silent."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stridelab.tracking.journal import KINDS, Journal, Record, decode, encode, is_live, last, pack_number, read

texts = st.text(max_size=40)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
payloads = st.dictionaries(texts, plain, max_size=5)


def write(path: Path, count: int) -> list[bytes]:
    journal = Journal(path)
    for number in range(count):
        journal.append("metrics", {"step": number, "values": {"train/loss": 1 / (number + 1)}})
    journal.close()
    return path.read_bytes().splitlines(keepends=True)


@given(st.lists(st.tuples(st.sampled_from(KINDS), payloads), max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_appended_comes_back(tmp_path: Path, entries: list[tuple[str, dict[str, object]]]) -> None:
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    for kind, data in entries:  # a new writer for each: the numbering goes on
        journal = Journal(path)
        journal.append(kind, data)
        journal.close()
    records = read(path)
    assert [(record.kind, record.data) for record in records] == entries
    assert [record.seq for record in records] == list(range(1, len(entries) + 1))
    for kind in KINDS:
        assert last(path, kind) == next((record for record in reversed(records) if record.kind == kind), None)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_float_survives_to_the_bit(value: float) -> None:
    record = decode(encode(Record(1, "metrics", 0, {"value": pack_number(value)})))
    assert record is not None
    back = float(record.data["value"])
    assert math.isnan(back) if math.isnan(value) else back.hex() == value.hex()


def test_each_line_is_json_that_other_tools_read(tmp_path: Path) -> None:
    (line,) = write(tmp_path / "journal.jsonl", 1)
    assert json.loads(line).keys() == {"seq", "kind", "ms", "data", "crc32"}


def test_a_torn_end_costs_only_the_torn_record_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = write(path, 4)
    whole = b"".join(lines)
    for cut in range(len(whole) - len(lines[-1]), len(whole)):
        path.write_bytes(whole[:cut])
        assert [record.seq for record in read(path)] == [1, 2, 3]
        journal = Journal(path)
        journal.append("metrics", {"step": 3, "values": {"train/loss": 0.25}})
        journal.close()
        assert [record.seq for record in read(path)] == [1, 2, 3, 4]
        assert last(path, "metrics") == read(path)[-1]


@pytest.mark.parametrize("rest", [b"\0" * 300, b"\0\n\0\n", b"{}\n", b"\n\n", b'{"seq":4'])
def test_what_a_power_cut_leaves_is_cut_off(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    whole = b"".join(write(path, 3))
    path.write_bytes(whole + rest)
    assert len(read(path)) == 3
    Journal(path).close()
    assert path.read_bytes() == whole


def test_any_changed_byte_before_the_last_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = write(path, 4)
    whole = b"".join(lines)
    for position in range(len(whole) - len(lines[-1])):
        old = whole[position]
        for new in {old ^ 1, old ^ 0x80, ord("\n"), ord("\r"), 0} - {old}:
            path.write_bytes(whole[:position] + bytes([new]) + whole[position + 1 :])
            with pytest.raises(ValueError, match=r"journal\.jsonl is damaged after record [012]"):
                read(path)
    damaged = path.read_bytes()
    with pytest.raises(ValueError, match="damaged"):
        Journal(path)
    assert path.read_bytes() == damaged, "a damaged journal is left for a person to look at"
    assert not is_live(path)


def test_a_missing_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = write(path, 4)
    path.write_bytes(lines[0] + b"".join(lines[2:]))
    with pytest.raises(ValueError, match="damaged after record 1"):
        read(path)


def test_one_writer_at_a_time_and_none_after_death(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = f"""
from pathlib import Path
from stridelab.tracking.journal import Journal
journal = Journal(Path({str(path)!r}))
journal.append("tags", {{"a": "b"}})
print("open", flush=True)
input()
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    with child, child.stdin, child.stdout:
        assert child.stdout.readline() == b"open\n"
        assert is_live(path)
        with pytest.raises(BlockingIOError, match="another process is writing this run"):
            Journal(path)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not is_live(path)
    assert [record.data for record in read(path)] == [{"a": "b"}]
    Journal(path).close()


def test_a_full_disk_leaves_whole_records_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("tags", {"n": "1"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            journal.append("tags", {"n": "2" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert str(path) in "".join(caught.value.__notes__)
    journal.append("tags", {"n": "3"})
    journal.close()
    assert [record.data["n"] for record in read(path)] == ["1", "3"]


def test_the_clock_may_jump_but_records_never_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    times = iter([2_000_000_000_000, 5_000_000, 1_000_000_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(times) * 1_000_000)
    for _ in range(3):
        journal = Journal(path)
        journal.append("tags", {})
        journal.close()
    assert [record.ms for record in read(path)] == [2_000_000_000_000] * 3


def test_a_status_is_on_the_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    real = os.fsync
    monkeypatch.setattr("os.fsync", lambda file: (flushed.append(file), real(file))[1])
    journal = Journal(tmp_path / "journal.jsonl", flush_every_s=3600)
    journal.append("metrics", {})
    assert not flushed
    journal.append("status", {}, durable=True)
    assert len(flushed) == 1
    journal.close()


def test_what_a_ghost_writes_is_refused_and_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm started its job anew while it lived on: it gets an error, and the file that it has open is no journal."""
    path = tmp_path / "journal.jsonl"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    ghost = Journal(path)
    ghost.append("tags", {"who": "the first attempt"})
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    successor = Journal(path)
    with pytest.raises(BlockingIOError, match=r"of job 7, since .*, has taken this over"):
        ghost.append("tags", {"who": "its ghost"})
    os.write(ghost._file, encode(Record(2, "tags", 0, {"who": "a ghost that looked a moment before"})))
    successor.append("tags", {"who": "the second attempt"})
    ghost.close()
    assert is_live(path)
    successor.close()
    assert [record.data["who"] for record in read(path)] == ["the first attempt", "the second attempt"]
