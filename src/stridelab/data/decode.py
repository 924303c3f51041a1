"""Decodes all images of a set into a cache, once. No torch here."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stridelab.system.locks import locked
from stridelab.system.processes import usable_cores
from stridelab.text import few, plural, printable

from .cache import Cache, Progress, Recipe, commit, open_cache, source_digest
from .contents import contents_of, forget, index_of, refuse_incomplete
from .files import fetch
from .image_index import ImageIndex
from .images import formats, read_image, strict_pillow
from .pixel_range import Range, UnreadableError
from .settings import DataConfig

BLOCK_BYTES = 16 << 20
"""Pixels that wait to be written, at most."""
THREADS_A_CORE = 2
"""Decoding leaves Python's lock, opening files does not."""
TOLD_EVERY_S = 0.2
NAMED = 5
"""Unreadable files that a refusal names."""
Decoded = NDArray[np.uint8] | Range | str


def decode(config: DataConfig, *, checked: bool, progress: Progress) -> tuple[ImageIndex, Cache]:
    """The image files of a set, found or downloaded, and their pixels. `checked`: see `open_cache`.

    FileNotFoundError when there are no files, ValueError when they are not the set or cannot be read or kept.
    """
    forget()
    fetch(config)
    facts, index = contents_of(config).facts, index_of(config)
    if not config.is_own_folder:
        refuse_incomplete(index, facts)
    recipe = Recipe(config.name, source_digest(index), len(index.paths), *facts.input_size, facts.input_channels)
    cache = find_or_make(index, header_of(config), recipe, checked=checked, progress=progress)
    if config.corrupt == "refuse":
        refuse_unreadable(index, cache)
    return index, cache


def header_of(config: DataConfig) -> Path:
    """One for each folder, size and number of channels."""
    height, width = config.size
    place = hashlib.sha256(os.fsencode(config.folder.resolve())).hexdigest()[:12]
    return cache_dir(config) / f"{config.name}-{height}x{width}x{config.channels}-{place}.json"


def cache_dir(config: DataConfig) -> Path:
    if config.cache_dir is not None:
        return Path(config.cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stridelab"


def unreadable_files(index: ImageIndex, cache: Cache) -> list[str]:
    """`path (why)` for each."""
    paths = index.paths
    return [printable(f"{paths[row]} ({why})") for row, why in sorted(cache.unreadable.items())]


def refuse_unreadable(index: ImageIndex, cache: Cache) -> None:
    if files := unreadable_files(index, cache):
        raise ValueError(
            f"{len(files)} of the {cache.recipe.count:,} image files under {index.folder} cannot be used: "
            f"{few(files, NAMED)}. Repair or remove them, or leave them out with data.corrupt=skip."
        )


def find_or_make(index: ImageIndex, header: Path, recipe: Recipe, *, checked: bool, progress: Progress) -> Cache:
    with refusing_bad_places(header.parent):
        cache = open_cache(header, recipe, checked=checked)
        if isinstance(cache, Cache):
            return cache
        header.parent.mkdir(parents=True, exist_ok=True)

        def tell(holder: str) -> None:
            progress({"said": f"another process is decoding these images; waiting for it ({holder})"})

        with locked(header.with_suffix(".lock"), waits=tell):
            cache = open_cache(header, recipe, checked=checked)  # another process may have made it meanwhile
            if isinstance(cache, str):
                if cache:
                    progress({"said": f"{cache}; the images are decoded again"})
                cache = make(index, header, recipe, progress)
    return cache


@contextmanager
def refusing_bad_places(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"the decoded images cannot be kept in {folder}: {error.strerror}. data.cache_dir names another folder."
        ) from None


def make(index: ImageIndex, header: Path, recipe: Recipe, progress: Progress) -> Cache:
    """Under a name that another attempt begins anew, after a kill too: 50,000 images take seconds."""
    refuse_full_disk(header.parent, needed=recipe.num_bytes)
    partial = header.with_suffix(".part")
    try:
        with partial.open("wb") as file:
            decoder = Decoder(index, recipe, progress)
            decoder.write(file)
            os.fsync(file.fileno())
        if source_digest(index) != recipe.source:
            raise ValueError(f"image files under {index.folder} changed while they were read; run again.")
        return commit(partial, header, recipe, unreadable=decoder.unreadable, notes=decoder.notes)
    finally:
        partial.unlink(missing_ok=True)


def refuse_full_disk(folder: Path, *, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"the decoded images need {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left. data.cache_dir "
            "names another folder; a smaller data.size takes less."
        )


class Decoder:
    """Writes the pixels of all images; those of more than 8 bits a value last, when the range of all is known."""

    def __init__(self, index: ImageIndex, recipe: Recipe, progress: Progress) -> None:
        self.recipe, self.progress = recipe, progress
        self.paths = [index.folder / path for path in index.paths]
        self.shape = recipe.height, recipe.width, recipe.channels
        self.unreadable: dict[int, str] = {}
        self.traits: list[str] = []
        self.deep: dict[int, str] = {}
        """Row -> kind of its values."""
        self.ranges: dict[str, Range] = {}
        self.told, self.num_done = monotonic(), 0

    @property
    def notes(self) -> list[str]:
        kinds = Counter(kind for row, kind in self.deep.items() if row not in self.unreadable)
        traits = [f"{plural(count, 'image')} {trait}" for trait, count in sorted(Counter(self.traits).items())]
        return [self.ranges[kind].note(count) for kind, count in sorted(kinds.items())] + traits

    def write(self, file: IO[bytes]) -> None:
        formats()  # Pillow loads its plugins here, not in several threads at once
        with strict_pillow(), ThreadPoolExecutor(THREADS_A_CORE * usable_cores()) as threads:
            for row, found in self._read_all(threads, range(len(self.paths)), self._first_look):
                file.write(self._pixels(row, found))
            for row, found in self._read_all(threads, list(self.deep), self._second_look):
                file.seek(row * math.prod(self.shape))
                file.write(self._pixels(row, found))
        self.progress({"decoded": self.recipe.count, "of": self.recipe.count, "set": self.recipe.set})

    def _read_all(
        self, threads: ThreadPoolExecutor, rows: Sequence[int], look: Callable[[int], Decoded]
    ) -> Iterator[tuple[int, Decoded]]:
        """A block of them at a time, so that pixels never wait in large numbers."""
        step = max(1, BLOCK_BYTES // math.prod(self.shape))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            yield from zip(block, threads.map(look, block), strict=True)

    def _pixels(self, row: int, found: Decoded) -> bytes:
        """Zeros where there are none, or none yet."""
        self.num_done += not isinstance(found, Range)
        if monotonic() - self.told > TOLD_EVERY_S and self.num_done < self.recipe.count:
            self.told = monotonic()
            self.progress({"decoded": self.num_done, "of": self.recipe.count, "set": self.recipe.set})
        if isinstance(found, str):
            self.unreadable[row] = found
        elif isinstance(found, Range):
            self.deep[row] = found.kind
            self.ranges[found.kind] = found.joined(self.ranges.get(found.kind))
        else:
            return found.tobytes()
        return bytes(math.prod(self.shape))

    def _first_look(self, row: int) -> Decoded:
        return self._read(row, note=self.traits.append)

    def _second_look(self, row: int) -> Decoded:
        return self._read(row, ranges=self.ranges, note=self.traits.append)

    def _read(self, row: int, **keys: Any) -> Decoded:
        """Its pixels, their range, or why it cannot be read."""
        size, channels = self.shape[:2], self.shape[2]
        try:
            return read_image(self.paths[row], size=size, channels=channels, **keys)
        except UnreadableError as error:
            return str(error)
