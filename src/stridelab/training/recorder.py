"""What training needs from whoever keeps its records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stridelab.data.cache import Progress

__all__ = ["Progress", "Recorder", "Silent"]


class Recorder(Protocol):
    """Implemented by `stridelab.tracking.Run`; cheap enough to call between steps."""

    @property
    def folder(self) -> Path: ...

    def metrics(self, values: Mapping[str, float], *, step: int) -> None: ...

    def image(self, key: str, array: NDArray[np.uint8], *, step: int) -> None: ...

    def artifact(self, path: Path, *, to: str = "") -> None: ...

    def tags(self, values: Mapping[str, str]) -> None: ...


@dataclass(frozen=True)
class Silent:
    """Records nothing: of a rank other than 0, which reads `folder` only."""

    folder: Path

    def metrics(self, values: Mapping[str, float], *, step: int) -> None: ...

    def image(self, key: str, array: NDArray[np.uint8], *, step: int) -> None: ...

    def artifact(self, path: Path, *, to: str = "") -> None: ...

    def tags(self, values: Mapping[str, str]) -> None: ...
