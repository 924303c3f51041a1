"""One file that holds many, safe to open whoever made it: a .tar.gz or .zip of plain files with a manifest.

The first member is `manifest.json`: the format, its version, and size and SHA-256 of every other member. The others
are `runs/<16 hex digits>.json` and `files/<their own SHA-256>`: no name in an archive comes from a person.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkstemp
from typing import IO, Any, NoReturn

from .members import CHUNK_BYTES, Entry, entries

FORMAT, VERSION = "stridelab sweep", 2
MANIFEST = "manifest.json"
MEMBER = re.compile(r"manifest\.json|runs/[0-9a-f]{16}\.json|files/[0-9a-f]{64}", re.ASCII)
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What a file system without hard links answers: that of a memory stick."""
Take = Callable[[str, Any], None]
SUFFIXES = (".tar.gz", ".tgz", ".zip")
DAMAGE = (
    EOFError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    UnicodeError,
    gzip.BadGzipFile,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the standard library raises on bytes that are no archive."""


@dataclass(frozen=True)
class Limits:
    """What is written and read at most: beyond it an archive is refused."""

    files: int = 200_000
    file_bytes: int = 1 << 30
    total_bytes: int = 8 << 30
    json_bytes: int = 256 << 20
    """Of the manifest and all records together."""
    record_bytes: int = 16 << 20
    """Of one record, or the manifest, which is read into memory: the journal of a run with 100,000 entries."""
    points: int = 500_000
    """Values of metrics in all."""


def write(path: Path, records: Mapping[str, bytes], files: Mapping[str, Path], *, limits: Limits, place: Path) -> None:
    """`records`: member name -> content; `files`: SHA-256 -> file. The same content gives the same bytes. The file
    is there whole or not at all; it is made in the folder `place`, on the same disk."""
    sizes = {name: len(content) for name, content in records.items()}
    sizes |= {f"files/{sha}": source.stat().st_size for sha, source in files.items()}
    _check_sizes(path, sizes, records, limits)
    shas = {name: hashlib.sha256(content).hexdigest() for name, content in records.items()}
    shas |= {f"files/{sha}": sha for sha in files}
    listed = {name: {"bytes": sizes[name], "sha256": shas[name]} for name in sorted(sizes)}
    manifest = json.dumps({"format": FORMAT, "version": VERSION, "files": listed}, indent=1).encode()
    handle, name = mkstemp(dir=place)  # of its own: two may write at once
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, _writer(file, kind=kind_of(path)) as add:
            add(MANIFEST, len(manifest), io.BytesIO(manifest))
            for name in sorted(records):
                add(name, sizes[name], io.BytesIO(records[name]))
            for sha in sorted(files):
                with files[sha].open("rb") as source:
                    add(f"files/{sha}", sizes[f"files/{sha}"], source)
        new.chmod(0o644)
        _name(new, path)
    except FileExistsError:
        raise ValueError(f"to={path} exists already; choose another name or remove it.") from None
    finally:
        new.unlink(missing_ok=True)


def _name(new: Path, path: Path) -> None:
    """Unlike a renaming, never over what another has written meanwhile."""
    try:
        os.link(new, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        path.open("x").close()
        new.replace(path)


def kind_of(path: Path) -> str:
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"{path} must end in {', '.join(SUFFIXES)}.")
    return "zip" if path.suffix == ".zip" else "tar"


def _check_sizes(path: Path, sizes: Mapping[str, int], records: Iterable[str], limits: Limits) -> None:
    """Never write what `read` would refuse."""
    large = [name for name, size in sizes.items() if size > limits.file_bytes]
    large += [name for name in records if sizes[name] > limits.record_bytes]
    kept = sum(sizes[name] for name in records)
    if large or len(sizes) >= limits.files or sum(sizes.values()) > limits.total_bytes or kept > limits.json_bytes / 2:
        raise ValueError(
            f"{path} would hold {len(sizes):,} files and {sum(sizes.values()):,} bytes, {kept:,} of them records, "
            f"{len(large)} files too large; {limits.files:,} files, {limits.total_bytes:,} bytes, "
            f"{limits.json_bytes // 2:,} bytes of records and {limits.file_bytes:,} bytes a file are the most."
        )


@contextmanager
def _writer(file: IO[bytes], *, kind: str) -> Iterator[Callable[[str, int, IO[bytes]], None]]:
    """A function that adds a member; no time, owner or mode of this machine goes in."""
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as zipped:

            def add_zip(name: str, size: int, source: IO[bytes]) -> None:
                info = zipfile.ZipInfo(name)
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
                with zipped.open(info, "w", force_zip64=size >= 1 << 31) as target:
                    while chunk := source.read(CHUNK_BYTES):
                        target.write(chunk)

            yield add_zip
        return
    with (
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):

        def add_tar(name: str, size: int, source: IO[bytes]) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mode = size, 0o644
            tar.addfile(info, source)

        yield add_tar


def read(path: Path, *, limits: Limits, into: Path, take: Take) -> set[str]:
    """Check every member against the rules and the manifest; `take` is given the name and content of each record, the
    files are put into `into`/files. Their names. ValueError names the member and the rule."""
    size = path.stat().st_size
    if size > limits.total_bytes:
        raise ValueError(f"{path}: {size:,} bytes; {limits.total_bytes:,} are the most.")
    try:
        with path.open("rb") as file:
            reader = _Reader(path, limits, into, take)
            for entry in entries(file, limit=limits.total_bytes + 2048 * limits.files):
                reader.take(entry)
            reader.end()
    except DAMAGE as error:
        said = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(f"{path} is damaged, or no archive of this kind ({said}).") from None
    return reader.names


@dataclass
class _Reader:
    path: Path
    limits: Limits
    into: Path
    record: Take
    names: set[str] = field(default_factory=set)
    """Of the members taken, but for the manifest."""
    manifest: Mapping[str, Any] | None = None
    total: int = 0
    """Bytes taken."""
    held: int = 0
    """Those of them that are JSON."""

    def take(self, entry: Entry) -> None:
        self._check(entry)
        self.total += entry.size
        digest, kept = hashlib.sha256(), io.BytesIO()
        is_file = entry.name.startswith("files/")
        (self.into / "files").mkdir(exist_ok=True)
        # MEMBER has seen to it that the name stays inside
        with entry.open() as source, (self.into / entry.name).open("xb") if is_file else nullcontext(kept) as target:
            left = entry.size
            while chunk := source.read(min(CHUNK_BYTES, left + 1)):
                left -= len(chunk)
                if left < 0:
                    self._refuse(entry.name, "is longer than the archive says")
                digest.update(chunk)
                target.write(chunk)
        if left:
            self._refuse(entry.name, f"is {left:,} bytes shorter than the archive says")
        if entry.name == MANIFEST:
            self.manifest = self._parse_manifest(kept.getvalue())
            return
        assert self.manifest is not None
        if self.manifest[entry.name] != {"bytes": entry.size, "sha256": digest.hexdigest()}:
            self._refuse(entry.name, "is not what the manifest says: its size or SHA-256 differs")
        if is_file and entry.name != f"files/{digest.hexdigest()}":
            self._refuse(entry.name, "is not named by its own SHA-256")
        self.names.add(entry.name)
        if not is_file:
            self.record(entry.name, self._parse(entry.name, kept.getvalue()))

    def end(self) -> None:
        if self.manifest is None:
            raise ValueError(f"{self.path} holds no {MANIFEST}: it is no archive of this kind.")
        for name in self.manifest:
            if name not in self.names:
                self._refuse(name, "is in the manifest but not in the archive")

    def _check(self, entry: Entry) -> None:
        name, limits = entry.name, self.limits
        if not MEMBER.fullmatch(name):
            self._refuse(name, f"is not a name in such an archive ({MANIFEST}, runs/<hash>.json, files/<hash>)")
        if entry.problem:
            self._refuse(name, f"is {entry.problem}; only plain files are taken")
        if name in self.names or (name == MANIFEST and self.manifest is not None):
            self._refuse(name, "is there twice")
        if (name == MANIFEST) != (self.manifest is None):
            self._refuse(name, f"comes before {MANIFEST}, which must be the first")
        if self.manifest is not None and name not in self.manifest:
            self._refuse(name, "is not in the manifest")
        if not 0 <= entry.size <= limits.file_bytes:
            self._refuse(name, f"says it holds {entry.size:,} bytes; {limits.file_bytes:,} a file are the most")
        if len(self.names) + 1 >= limits.files:
            self._refuse(name, f"is one too many; {limits.files:,} files are the most")
        if self.total + entry.size > limits.total_bytes:
            self._refuse(name, f"goes beyond {limits.total_bytes:,} bytes in all, which are the most")
        if not name.startswith("files/"):
            self.held += entry.size
            if entry.size > limits.record_bytes:
                self._refuse(name, f"holds {entry.size:,} bytes; {limits.record_bytes:,} a record are the most")
            if self.held > limits.json_bytes:
                self._refuse(name, f"goes beyond {limits.json_bytes:,} bytes of records, which are the most")

    def _parse_manifest(self, content: bytes) -> Mapping[str, Any]:
        found = self._parse(MANIFEST, content)
        if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("files"), dict):
            raise ValueError(f"{self.path}: {MANIFEST} is not that of a sweep exported by Stridelab.")
        if found.get("version") != VERSION:
            raise ValueError(
                f"{self.path} is of format version {str(found.get('version'))[:20]}; this Stridelab reads {VERSION}."
            )
        files: dict[str, Any] = found["files"]
        return files

    def _parse(self, name: str, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            self._refuse(name, f"is not JSON ({str(error)[:100]})")

    def _refuse(self, name: str, rule: str) -> NoReturn:
        raise ValueError(f"{self.path}: member {name[:120]!r} {rule}. Nothing was imported.")
