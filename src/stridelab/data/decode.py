"""Makes a cache: all images of a listing, block by block; after a kill it goes on behind the last sound block."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from stridelab.system.locks import locked

from .cache import (
    Cache,
    Progress,
    Recipe,
    all_paths,
    block_digest,
    num_threads,
    opened,
    source_digest,
    write_sealed,
)
from .image_index import Listing
from .images import UnreadableError, formats, read_image, strict_pillow

TOLD_EVERY_S = 0.2


def cached(
    listing: Listing, header: Path, *, name: str, shape: tuple[int, int, int], checked: bool, progress: Progress
) -> Cache:
    """The cache of these images at `header`, made if need be. `shape` is (height, width, channels).

    ValueError when it cannot be written.
    """
    recipe = Recipe(name, source_digest(listing), len(all_paths(listing.parts)), *shape)
    with refusing_bad_places(header.parent):
        found = opened(header, recipe, checked=checked)
        if isinstance(found, Cache):
            return found
        header.parent.mkdir(parents=True, exist_ok=True)

        def waits(holder: str) -> None:
            progress({"said": f"another process is decoding these images; waiting for it ({holder})"})

        with locked(header.with_suffix(".lock"), waits=waits):
            found = opened(header, recipe, checked=checked)  # another process may have made it meanwhile
            if isinstance(found, str):
                if found:
                    progress({"said": f"{found}; the images are decoded again"})
                found = make(listing, header, recipe, progress)
    return found


@contextmanager
def refusing_bad_places(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"the decoded images cannot be kept in {folder}: {error.strerror}. data.cache_dir names another folder."
        ) from None


def make(listing: Listing, header: Path, recipe: Recipe, progress: Progress) -> Cache:
    part, log = header.with_suffix(".part"), header.with_suffix(".part.log")
    with part.open("a+b") as file:
        done = resumable(file.fileno(), log, recipe)
        refuse_full_disk(part.parent, needed=recipe.num_bytes - os.fstat(file.fileno()).st_size)
        if not done:
            log.write_text(json.dumps(asdict(recipe)) + "\n")
        with log.open("a") as lines:
            for record in decoded(listing, file.fileno(), recipe, begin=len(done), progress=progress):
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                done.append(record)
        os.fsync(file.fileno())
    if source_digest(listing) != recipe.source:
        raise ValueError(f"image files under {listing.folder} changed while they were read; run again.")
    cache = commit(part, header, recipe, done)
    log.unlink()
    return cache


def resumable(file: int, log: Path, recipe: Recipe) -> list[dict[str, Any]]:
    """Records of the blocks that an earlier process completed, as far as they are sound; the rest is cut off."""
    done: list[dict[str, Any]] = []
    try:
        first, *lines = log.read_text().splitlines()
        if json.loads(first) == asdict(recipe):
            for rows, line in zip(recipe.blocks, lines, strict=False):
                record = json.loads(line)
                if block_digest(file, rows, recipe) != record["sha256"]:
                    break
                done.append(record)
    except (OSError, ValueError, KeyError, TypeError):  # no log, or its last line was cut off
        pass
    os.ftruncate(file, sum(len(rows) for rows in recipe.blocks[: len(done)]) * recipe.image_bytes)
    if done:
        log.write_text("".join(json.dumps(record) + "\n" for record in (asdict(recipe), *done)))
    return done


def refuse_full_disk(folder: Path, *, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"the decoded images need {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left. data.cache_dir "
            "names another folder; a smaller data.size takes less."
        )


def decoded(listing: Listing, file: int, recipe: Recipe, *, begin: int, progress: Progress) -> Iterator[dict[str, Any]]:
    """Write the blocks from number `begin` on; a record of each."""
    paths = [listing.folder / path for path in all_paths(listing.parts)]
    shape = recipe.height, recipe.width, recipe.channels
    told = monotonic()
    formats()  # Pillow loads its plugins here, not in several threads at once
    with strict_pillow(), ThreadPoolExecutor(num_threads()) as threads:
        for rows in recipe.blocks[begin:]:
            pixels = np.zeros((len(rows), *shape), np.uint8)
            fill = partial(read_into, pixels, paths[rows.start : rows.stop])
            unreadable = {}
            for position, why in enumerate(threads.map(fill, range(len(rows)))):
                if why is not None:
                    unreadable[rows.start + position] = why
                if monotonic() - told > TOLD_EVERY_S:
                    told = monotonic()
                    progress({"decoded": rows.start + position + 1, "of": recipe.count, "set": recipe.set})
            content = pixels.data.cast("B")
            written = os.pwrite(file, content, rows.start * recipe.image_bytes)
            if written != len(content):
                raise OSError(0, "the disk is full")
            yield {"sha256": hashlib.sha256(content).hexdigest(), "unreadable": unreadable}
    progress({"decoded": recipe.count, "of": recipe.count, "set": recipe.set})


def read_into(pixels: Any, paths: list[Path], position: int) -> str | None:
    """Why it cannot be read; None when it was."""
    _, height, width, channels = pixels.shape
    try:
        pixels[position] = read_image(paths[position], size=(height, width), channels=channels)
    except UnreadableError as error:
        return str(error)
    return None


def commit(part: Path, header: Path, recipe: Recipe, done: list[dict[str, Any]]) -> Cache:
    """Name the pixels after their digest, then let the header name them: processes that use an earlier cache keep
    its file open, and a kill in between leaves the earlier header or none."""
    blocks = [record["sha256"] for record in done]
    total = hashlib.sha256("".join(blocks).encode()).hexdigest()
    data = header.with_name(f"{header.stem}.{total[:16]}.u8")
    part.replace(data)
    write_sealed(
        header,
        {
            "recipe": asdict(recipe),
            "data": data.name,
            "changed_ns": data.stat().st_mtime_ns,
            "sha256": total,
            "blocks": blocks,
            "unreadable": {str(row): why for record in done for row, why in record["unreadable"].items()},
        },
    )
    for old in header.parent.glob(f"{header.stem}.*"):
        if old.suffix in (".u8", ".json") and old not in (data, header):
            old.unlink(missing_ok=True)
    found = opened(header, recipe, checked=True)
    assert isinstance(found, Cache), found
    return found
