"""What each layer of a network makes of images."""

from __future__ import annotations

from torch import Tensor, nn


def layer_outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Copies, by the names of the layers of its plan: a later in-place ReLU would overwrite them."""
    made: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(one.name).register_forward_hook(
            lambda module, args, output, name=one.name: made.__setitem__(name, output.clone())
        )
        for one in network.plan.layers  # type: ignore[union-attr]
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return made
