"""From `data.*` to decoded image files: found or downloaded, complete, readable. No torch here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from stridelab.text import printable

from .cache import Cache, Progress, all_paths
from .decode import cached
from .files import fetch
from .image_index import Listing, listed, refuse_incomplete
from .settings import DataConfig

NAMED = 5
"""Unreadable files that a refusal names."""


def ready(config: DataConfig, *, checked: bool, progress: Progress) -> tuple[Listing, Cache]:
    """What there is, and its pixels. `checked`: see `cache.opened`.

    FileNotFoundError when there are no files, ValueError when they are not the set or cannot be read.
    """
    listed.cache_clear()
    fetch(config)
    config.check()
    listing, facts = config.listing, config.facts
    if not config.is_listed:
        refuse_incomplete(listing, facts)
    cache = cached(
        listing,
        header_of(config),
        name=config.name,
        shape=(*facts.input_size, facts.input_channels),
        checked=checked,
        progress=progress,
    )
    if config.corrupt == "refuse":
        refuse_unreadable(listing, cache)
    return listing, cache


def header_of(config: DataConfig) -> Path:
    """One for each folder, size and number of channels."""
    height, width = config.facts.input_size
    place = hashlib.sha256(os.fsencode(config.folder.resolve())).hexdigest()[:12]
    return cache_dir(config) / f"{config.name}-{height}x{width}x{config.facts.input_channels}-{place}.json"


def cache_dir(config: DataConfig) -> Path:
    if config.cache_dir is not None:
        return Path(config.cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stridelab"


def unreadable(listing: Listing, cache: Cache) -> list[str]:
    """`path (why)` for each; names that cannot be printed are escaped."""
    paths = all_paths(listing.parts)
    return [printable(f"{paths[row]} ({why})") for row, why in sorted(cache.unreadable.items())]


def refuse_unreadable(listing: Listing, cache: Cache) -> None:
    found = unreadable(listing, cache)
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise ValueError(
            f"{len(found)} of the {cache.recipe.count:,} image files under {listing.folder} cannot be used: "
            f"{', '.join(found[:NAMED])}{more}. Repair or remove them, or leave them out with data.corrupt=skip."
        )
