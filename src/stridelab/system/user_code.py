"""Python files of the user's that give networks and data sets: found again in every process, and known by digest."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

GROUPS = {"family": "stridelab.families", "dataset": "stridelab.datasets"}
"""What a decorator registers -> the entry points by which an installed package offers the same."""
OURS = Path(__file__).parents[2]
"""The folder from which this package is imported."""
MAINS = ("__main__", "__mp_main__")


@dataclass(frozen=True)
class FunctionSource:
    """Where a function of the user's stands."""

    module: str
    """As it can be imported; empty of a file that is a program."""
    path: str
    """Of the file; empty in a notebook or at a prompt, whence no other process can have it."""

    @property
    def name(self) -> str:
        return Path(self.path).name or "a notebook or prompt"

    @property
    def digest(self) -> str:
        """SHA-256 over the file and those of the user's that it imports, and the version of its package."""
        digest = hashlib.sha256(self.version.encode())
        files = files_of(Path(self.path)) if self.path else ()
        for name, content in sorted((path.name.encode(), path.read_bytes()) for path in files):
            digest.update(name + b"\0" + content.replace(b"\r\n", b"\n"))
        return digest.hexdigest()

    @property
    def version(self) -> str:
        """`name 1.2` of the installed package that it is in; empty of a file of its own."""
        top = self.module.partition(".")[0]
        for distribution in distributions().get(top, ())[:1] if top else ():
            return f"{distribution} {metadata.version(distribution)}"
        return ""

    def load(self) -> None:
        """Run the file, so that it registers what it gives, unless this process has already done so."""
        if any(loaded_from(module) == self.path for module in list(sys.modules.values())):
            return
        if self.module:
            import_module(self.module)
            return
        spec = spec_from_file_location(f"stridelab_user_{Path(self.path).stem}", self.path)
        if spec is None or spec.loader is None or not Path(self.path).is_file():
            raise ValueError(f"{self.path} is not here, and the network or the data of this run are made there")
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        sys.path.insert(0, str(Path(self.path).parent))
        _loading.append(self)
        try:
            spec.loader.exec_module(module)
        finally:
            _loading.pop()
            sys.path.remove(str(Path(self.path).parent))


def distributions() -> Mapping[str, list[str]]:
    """By the packages in them."""
    folders = (Path(entry) for entry in sys.path)
    return _distributions(tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders if folder.is_dir()))


@cache
def _distributions(folders: tuple[tuple[str, int], ...]) -> Mapping[str, list[str]]:
    """`folders`, with the times of their last changes: whence packages are imported now."""
    return metadata.packages_distributions()


_loading: list[FunctionSource] = []


def loading() -> bool:
    """Whether a file of the user's is being run only for what it registers."""
    return bool(_loading)


def loaded_from(module: ModuleType) -> str:
    path = getattr(module, "__file__", None)
    return str(Path(path).resolve()) if isinstance(path, str) and path.endswith(".py") else ""


def source_of(function: Callable[..., Any]) -> FunctionSource:
    module = sys.modules.get(function.__module__)
    path = loaded_from(module) if module is not None else ""
    is_program = function.__module__ in MAINS or function.__module__.startswith("stridelab_user_")
    return FunctionSource("" if is_program else function.__module__, path)


def files_of(path: Path) -> set[Path]:
    """The file, what it imports of the user's own, and what that imports."""
    found, ahead = {path}, [path]
    while ahead:
        for new in imported(ahead.pop()):
            if new not in found:
                found.add(new)
                ahead.append(new)
    return found


def imported(path: Path) -> Iterator[Path]:
    """Files of modules that import statements in `path` name, and of the packages that these are in."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names, folders = [alias.name.split(".") for alias in node.names], own_folders(path)
            case ast.ImportFrom():
                base = node.module.split(".") if node.module else []
                names = [[*base, alias.name] for alias in node.names]
                folders = [path.parents[node.level - 1]] if node.level else own_folders(path)
            case _:
                continue
        for parts in names:
            for folder in folders:
                stems = [folder.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
                files = (file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py"))
                yield from (file.resolve() for file in files if file.is_file())


def own_folders(path: Path) -> list[Path]:
    """Whence a file of the user's imports what is no installed package, and no module of Python or of ours."""
    python = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    kept = [path.parent]
    for folder in (Path(entry).resolve() for entry in sys.path):
        installed = {"site-packages", "dist-packages"} & {*folder.parts} or any(map(folder.is_relative_to, python))
        if folder.is_dir() and not installed and folder not in (OURS, *kept):
            kept.append(folder)
    return kept


def load_entry_point(kind: str, name: str) -> bool:
    """Import what an installed package offers as `name`; whether there is such a thing."""
    offers = [one for one in metadata.entry_points(group=GROUPS[kind]) if one.name == name]
    if len({one.value for one in offers}) > 1:
        raise ValueError(f"{kind} {name!r} is offered by two packages: {', '.join(one.value for one in offers)}")
    for one in offers:
        one.load()
    return bool(offers)


def shown(error: BaseException) -> str:
    """`KeyError: 'x' (mine.py, line 12)`: what went wrong in code of the user's, and where."""
    here = Path(__file__).parents[1]
    frames, trace = [], error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if not file.is_relative_to(here) and "site-packages" not in file.parts:
            frames.append(f"{file.name}, line {trace.tb_lineno}")
        trace = trace.tb_next
    where = f" ({frames[-1]})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
