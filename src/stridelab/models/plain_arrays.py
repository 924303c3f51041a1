"""A network's weights as plain arrays, as it computes in evaluation: what a page or another program can run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .layer_modules import Scale

Arrays = dict[str, NDArray[Any]]


@torch.no_grad()
def plain_arrays(network: nn.Module) -> Arrays:
    """`<layer>/<parameter>` -> array. Weights are float16; biases, and what a batch norm has become, scale and shift,
    float32. A layer norm has its weight, bias and eps.
    """
    arrays: Arrays = {}
    for name, module in network.named_modules():
        if convert := next((one for kind, one in CONVERTERS.items() if isinstance(module, kind)), None):
            arrays |= {f"{name}/{part}": values for part, values in convert(module).items()}
    return arrays


def weighted(module: Any) -> Arrays:
    arrays = {"weight": float16(module.weight)}
    return arrays if module.bias is None else arrays | {"bias": float32(module.bias)}


def scaled(module: Any) -> Arrays:
    """y = scale * x + shift, from the running statistics."""
    deviation = torch.sqrt(module.running_var.double() + module.eps)
    weight = torch.ones_like(deviation) if module.weight is None else module.weight.double()
    bias = torch.zeros_like(deviation) if module.bias is None else module.bias.double()
    scale = weight / deviation
    return {"scale": float32(scale), "shift": float32(bias - module.running_mean.double() * scale)}


def layer_norm(module: Any) -> Arrays:
    return {"weight": float32(module.weight), "bias": float32(module.bias), "eps": np.array(module.eps)}


def multiplied(module: Any) -> Arrays:
    return {"weight": float32(module.weight)}


CONVERTERS = {
    Scale: multiplied,
    nn.Conv2d: weighted,
    nn.Linear: weighted,
    nn.BatchNorm2d: scaled,
    nn.LayerNorm: layer_norm,
}


def float16(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().float().contiguous().numpy().astype(np.float16)


def float32(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().float().contiguous().numpy()
