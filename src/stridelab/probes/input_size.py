"""How a network does on images of other sizes than it was trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .trained import Trained

SMALLER_PX, LARGER_PX = 3, 5


def input_size_robustness(trained: Trained) -> dict[str, Any]:
    """Test accuracy at every size from 3 px smaller to 5 px larger than in training, height and width alike, and the
    lowest of them. Strided windows then end elsewhere at the border ("Mind the Pad", Alsallakh et al. 2021; "Mind the
    Pool", the same, 2023). Nothing is scaled: images are cut or surrounded by black, in the middle; of an odd
    number of rows or columns, the odd one at the bottom or right. The network's pads stay those that it was built with.
    """
    split = trained.data.test
    _, height, width = split.image_shape
    if height <= SMALLER_PX or width <= SMALLER_PX:
        raise ValueError(f"images of {height}x{width} cannot be {SMALLER_PX} px smaller")
    found = {}
    for more in range(-SMALLER_PX, LARGER_PX + 1):
        size = f"{width + more}px" if height == width else f"{height + more}x{width + more}px"
        try:
            classes = trained.top1(resized(split.images, more))
        except RuntimeError as error:
            raise ValueError(f"the network takes no images of {size}: {' '.join(str(error).split())}") from None
        found[size] = (classes == split.labels).double().mean().item()
    return {"": min(found.values()), **found}


def resized(images: Tensor, more: int) -> Tensor:
    """[n, channels, height + more, width + more], `more` pixels of black around or cut off."""
    from torch.nn.functional import pad

    before = more // 2 if more >= 0 else -(-more // 2)
    return pad(images, (before, more - before, before, more - before))
