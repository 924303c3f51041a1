"""Images decoded once into a file: found when it is sound and of these very files, made anew when it is not.

NAME.json is the header, and names the file of pixels: uint8 [n, height, width, channels], nothing else. A header is
written when its pixels are complete, in one step; so there is never half a cache. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stridelab.system.files import sha256_of, write_json_atomic

from .image_index import ImageIndex

FORMAT = 2
"""Of the header and of what `images.read_image` makes of a file; one more makes every cache anew."""

Progress = Callable[[Mapping[str, Any]], None]
"""Called a few times a second: with decoded, of and set; in training, with epoch, epochs, step, steps and the latest
metrics; with said, a sentence for a person."""


@dataclass(frozen=True)
class Recipe:
    """All that decides what is in a cache."""

    set: str
    source: str
    """SHA-256 over split, path, class, size in bytes and time of change of every image file."""
    count: int
    height: int
    width: int
    channels: int
    format: int = FORMAT

    @property
    def num_bytes(self) -> int:
        return self.count * self.height * self.width * self.channels


@dataclass(frozen=True)
class Cache:
    recipe: Recipe
    data: Path
    sha256: str
    unreadable: Mapping[int, str]
    """Row -> why; its pixels are zeros."""
    notes: Sequence[str]
    """What was done to the images, a sentence each."""
    header: Path


def source_digest(index: ImageIndex) -> str:
    """Names, sizes and times, as make and rsync notice change; a file that is gone counts as empty."""
    digest = hashlib.sha256(json.dumps(index.class_names).encode())
    for number, part in enumerate(index.parts):
        for path, label in zip(part.paths, part.labels, strict=True):
            try:
                state = os.stat(f"{index.folder}/{path}")  # noqa: PTH116 - a Path for each of a million is slow
                size, changed = state.st_size, state.st_mtime_ns
            except OSError:
                size, changed = 0, 0
            digest.update(f"{number}\0{path}\0{label}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def open_cache(header: Path, recipe: Recipe, *, checked: bool) -> Cache | str:
    """The cache, or why it cannot be used. `checked` says that another process has read all of it a moment ago:
    then its size and time of change must do, unless they differ from the header's."""
    try:
        content = json.loads(header.read_text())
        if content.pop("seal") != seal(content):
            return f"{header} is damaged"
        if content["recipe"] != asdict(recipe):
            return "the image files have changed"
        cache = Cache(
            recipe=recipe,
            data=header.with_name(content["data"]),
            sha256=content["sha256"],
            unreadable={int(row): why for row, why in content["unreadable"].items()},
            notes=tuple(content["notes"]),
            header=header,
        )
        state = cache.data.stat()
        if state.st_size != recipe.num_bytes:
            return f"{cache.data} is damaged: it has {state.st_size:,} bytes instead of {recipe.num_bytes:,}"
        if not (checked and state.st_mtime_ns == content["changed_ns"]) and sha256_of(cache.data) != cache.sha256:
            return f"{cache.data} is damaged: its bytes are not as they were written"
    except FileNotFoundError as error:
        return "" if error.filename == str(header) else f"{error.filename} is gone"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{header} is damaged"
    return cache


def commit(
    partial: Path, header: Path, recipe: Recipe, *, unreadable: Mapping[int, str], notes: Sequence[str]
) -> Cache:
    """Name the pixels after their digest, then let the header name them: processes that use an earlier cache keep
    its file open, and a kill in between leaves the earlier header or none."""
    sha256 = sha256_of(partial)
    data = header.with_name(f"{header.stem}.{sha256[:16]}.u8")
    partial.replace(data)
    content = {
        "recipe": asdict(recipe),
        "data": data.name,
        "changed_ns": data.stat().st_mtime_ns,
        "sha256": sha256,
        "unreadable": {str(row): why for row, why in unreadable.items()},
        "notes": list(notes),
    }
    write_sealed(header, content)
    for old in header.parent.glob(f"{header.stem}.*"):
        if old.suffix in (".u8", ".json") and old not in (data, header):
            old.unlink(missing_ok=True)
    return Cache(recipe, data, sha256, unreadable, notes, header)


def seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """In one step, and on the disk when it is there."""
    write_json_atomic(path, dict(content) | {"seal": seal(content)})


def cached_facts(cache: Cache, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was computed of these pixels once, beside the header; a damaged note is computed again."""
    path = cache.header.with_name(f"{cache.header.stem}.{key}.json")
    try:
        content = json.loads(path.read_text())
        if content.pop("seal") == seal(content) and content.pop("of") == cache.sha256:
            return dict(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    found = compute()
    with suppress(OSError):  # a cache that is shared may be read-only here
        write_sealed(path, found | {"of": cache.sha256})
    return found
