"""Images decoded once into a file: found when it is sound and of these very files, made anew when it is not.

NAME.json is the header, and names the file of pixels: uint8 [n, height, width, channels], nothing else. A header is
written when its pixels are complete, in one step; so there is never half a cache. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from stridelab.system.files import write_json_atomic
from stridelab.system.processes import usable_cores

from .image_index import Listing, Part

FORMAT = 1
"""Of the header and of what `images.read_image` makes of a file; one more makes every cache anew."""
BLOCK_BYTES = 16 << 20
PIECE_BYTES = 1 << 20

Progress = Callable[[Mapping[str, Any]], None]
Found = TypeVar("Found")


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
    def image_bytes(self) -> int:
        return self.height * self.width * self.channels

    @property
    def num_bytes(self) -> int:
        return self.count * self.image_bytes

    @property
    def block_images(self) -> int:
        return max(1, BLOCK_BYTES // self.image_bytes)

    @property
    def blocks(self) -> list[range]:
        """Rows of each block."""
        step = self.block_images
        return [range(start, min(start + step, self.count)) for start in range(0, self.count, step)]


@dataclass(frozen=True)
class Cache:
    recipe: Recipe
    data: Path
    sha256: str
    """Over the SHA-256 of every block."""
    blocks: tuple[str, ...]
    """SHA-256 of each."""
    unreadable: Mapping[int, str]
    """Row -> why; its pixels are zeros."""
    header: Path


def source_digest(listing: Listing) -> str:
    """Names, sizes and times, as make and rsync notice change; a file that is gone counts as empty."""
    digest = hashlib.sha256(json.dumps(listing.class_names).encode())
    for number, part in enumerate(listing.parts):
        for path, label in zip(part.paths, part.labels, strict=True):
            try:
                state = os.stat(f"{listing.folder}/{path}")  # noqa: PTH116 - a Path for each of a million is slow
                size, changed = state.st_size, state.st_mtime_ns
            except OSError:
                size, changed = 0, 0
            digest.update(f"{number}\0{path}\0{label}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def all_paths(parts: Sequence[Part]) -> list[str]:
    """In the order of the rows."""
    return [path for part in parts for path in part.paths]


def opened(header: Path, recipe: Recipe, *, checked: bool) -> Cache | str:
    """The cache, or why it cannot be used. `checked` says that another process has read all of it a moment ago:
    then its size and time of change must do, unless they differ from the header's."""
    try:
        content = json.loads(header.read_text())
        sealed = content.pop("seal")
        if sealed != seal(content):
            return f"{header} is damaged"
        if content["recipe"] != asdict(recipe):
            return "the image files have changed"
        cache = Cache(
            recipe=recipe,
            data=header.with_name(content["data"]),
            sha256=content["sha256"],
            blocks=tuple(content["blocks"]),
            unreadable={int(row): why for row, why in content["unreadable"].items()},
            header=header,
        )
        state = cache.data.stat()
        if state.st_size != recipe.num_bytes:
            return f"{cache.data} is damaged: it has {state.st_size:,} bytes instead of {recipe.num_bytes:,}"
        if not (checked and state.st_mtime_ns == content["changed_ns"]):
            wrong = damaged_blocks(cache)
            if wrong:
                return f"{cache.data} is damaged: blocks {', '.join(map(str, wrong[:5]))} are not as they were written"
    except FileNotFoundError as error:
        return "" if error.filename == str(header) else f"{error.filename} is gone"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{header} is damaged"
    return cache


def damaged_blocks(cache: Cache) -> list[int]:
    blocks = cache.recipe.blocks
    with cache.data.open("rb") as file, ThreadPoolExecutor(num_threads()) as threads:
        found = threads.map(lambda rows: block_digest(file.fileno(), rows, cache.recipe), blocks)
        return [number for number, digest in enumerate(found) if digest != cache.blocks[number]]


def block_digest(file: int, rows: range, recipe: Recipe) -> str:
    digest = hashlib.sha256()
    end = rows.stop * recipe.image_bytes
    for start in range(rows.start * recipe.image_bytes, end, PIECE_BYTES):
        digest.update(os.pread(file, min(PIECE_BYTES, end - start), start))
    return digest.hexdigest()


def num_threads() -> int:
    """Twice the cores: decoding leaves Python's lock, opening files does not."""
    return 2 * usable_cores()


def seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """In one step, and on the disk when it is there."""
    write_json_atomic(path, dict(content) | {"seal": seal(content)})


def remembered(cache: Cache, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
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
