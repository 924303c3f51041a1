"""Weights from a file of the user's, into a network that has others. No code in such a file is run."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stridelab.system.files import sha256_of
from stridelab.text import by, few

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_NAMES = 4


def weights_file(path: str) -> Path:
    """ValueError for a file that is not here or that cannot be read."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"model.weights={path} is not a file; nothing is downloaded")
    if file.suffix == ".safetensors" and find_spec("safetensors") is None:
        raise ValueError(
            f"model.weights={path} needs the package safetensors: pip install safetensors (or stridelab[safetensors])"
        )
    return file


def file_digest(path: str) -> str:
    return sha256_of(weights_file(path))


def fitting_weights(network: nn.Module, path: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """What the file gives `network`. A last layer of another number of classes stays random, and a first convolution of
    RGB images is summed over the channels for grey ones. ValueError for a file that is of another network."""
    given, ours = read_weights(path), network.state_dict()
    said = adapt(given, ours)
    absent, more = sorted(ours.keys() - given.keys()), sorted(given.keys() - ours.keys())
    other = [name for name in given if name in ours and given[name].shape != ours[name].shape]
    parts = [
        *[f"it lacks {few(absent, MOST_NAMES)}"] * bool(absent),
        *[f"it has {few(more, MOST_NAMES)} besides"] * bool(more),
        *[f"{name} is {by(given[name].shape)}, not {by(ours[name].shape)}" for name in other[:MOST_NAMES]],
    ]
    if parts:
        raise ValueError(f"model.weights={path} is of another network: {'; '.join(parts)}")
    return given, tuple(said)


def read_weights(path: str) -> dict[str, Tensor]:
    """By name, without the wrapping that training scripts give them."""
    import torch

    file = weights_file(path)
    try:
        if file.suffix == ".safetensors":
            content: Any = import_module("safetensors.torch").load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what bytes that are no pickle make its reader raise is not documented
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise ValueError(f"model.weights={path} is no file of weights alone: {reason[:200]}") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"model.weights={path} holds a {type(content).__name__}, not tensors by name")
    return {name.removeprefix("module."): value for name, value in content.items()}


def adapt(given: dict[str, Tensor], ours: dict[str, Tensor]) -> list[str]:
    """Change `given` where number of classes or of image channels differ, and drop what auxiliary classifiers have."""
    said = []
    for name in [name for name in given if name not in ours and name.split(".")[0].lower().startswith("aux")]:
        del given[name]
    weights = [name for name in ours if ours[name].ndim > 1]
    first, last = weights[0], weights[-1]
    if first in given and given[first].shape[1:2] == (3,) and ours[first].shape[1:2] == (1,):
        given[first] = given[first].sum(dim=1, keepdim=True)
        said.append(f"{first}: summed over its 3 channels, for the images have one")
    owner = last.removesuffix("weight")
    if last in given and given[last].shape[1:] == ours[last].shape[1:] and given[last].shape != ours[last].shape:
        for name in [name for name in ours if name.startswith(owner)]:
            given[name] = ours[name]
        said.append(f"{owner.rstrip('.')}: random, for the file has another number of classes")
    return said
