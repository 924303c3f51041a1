"""Images by key and step: a small PNG in the run's folder, and the two files that the MLflow UI shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

WIDTHS_PX = (256, 512)
"""Of images in the UI, whose cards and full screen fit an image into 200 to 300 px."""

MAX_SIDE_PX, MAX_PIXELS = 16383, 1 << 24
"""WebP's limit of a side; what an image in the UI may have: 50 MB unpacked."""


def file_name(key: str, *, step: int) -> str:
    return f"{flat(key)}+step+{step}.png"


def flat(key: str) -> str:
    return key.replace("/", "~")


def save_png(path: Path, array: NDArray[np.uint8]) -> None:
    """`array`: uint8, height x width (grey) or height x width x 3 (RGB)."""
    import numpy as np
    from PIL import Image

    shape = array.shape
    if array.dtype != np.uint8 or 0 in shape or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        raise ValueError(
            f"an image must be uint8 and (height, width) or (height, width, 3), not {array.dtype} {shape}."
        )
    Image.fromarray(np.ascontiguousarray(array)).save(path, compress_level=1)


def save_for_ui(source: Path, folder: Path, *, key: str, step: int, ms: int, uid: str) -> None:
    """Write what `MlflowClient.log_image` would, but under names that are the same when sent again, at a
    width that the UI does not blur, and losslessly. Anything may be raised on a file that came in an archive."""
    from PIL import Image

    with Image.open(source, formats=("PNG",)) as image:  # others call programs
        if max(image.size) > MAX_SIDE_PX or image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it has {image.width} x {image.height} px; {MAX_PIXELS:,} are the most")
        shown = enlarge(image.convert("RGB"))
    name = f"{flat(key)}+step+{step}+timestamp+{ms}+{uuid5(UUID(uid), f'{key}+{step}')}"
    shown.save(folder / f"{name}.png", compress_level=1)
    shown.save(folder / f"{name}+compressed.webp", lossless=True, quality=0, method=0)


def enlarge(image: Image) -> Image:
    """Enlarged by a whole factor, so that all pixels stay equal squares, on a white ground of the one of WIDTHS_PX that
    it fills best; wider images are left alone."""
    from PIL import Image
    from PIL.Image import Resampling

    if image.width > max(WIDTHS_PX):
        return image
    width = max(WIDTHS_PX, key=lambda width: width // image.width * image.width / width)
    factor = width // image.width
    large = image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    ground = Image.new("RGB", (width, large.height), "white")
    ground.paste(large, ((width - large.width) // 2, 0))
    return ground
