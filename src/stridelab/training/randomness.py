"""Every source of randomness, each a pure function of (seed, purpose, epoch or name): nothing to save or to leak."""

from __future__ import annotations

import hashlib
import math

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from stridelab.data.augment import Moves
from stridelab.models.head_modules import Readout

from . import ranks


def keyed_generator(seed: int, *purpose: object) -> torch.Generator:
    """A generator of its own for this seed and purpose, for instance `(seed, "order", epoch)`."""
    return torch.Generator().manual_seed(keyed_seed(seed, *purpose))


def keyed_seed(seed: int, *purpose: object) -> int:
    """The first 63 bits of SHA-256 over seed and purpose."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def batch_order(seed: int, *, epoch: int, count: int) -> Tensor:
    """The order of `count` training images in `epoch` (from 0): int64 [count]."""
    return torch.randperm(count, generator=keyed_generator(seed, "order", epoch))


def random_bits(key: int, count: int) -> Tensor:
    """int64 [count] of 64 random bits each: the first outputs of SplitMix64 (Steele, Lea and Flood 2014) from the
    state `key`, each a function of `key` and its position alone; int64 wraps as uint64 does."""
    bits = key + torch.arange(1, count + 1) * _signed(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ _shifted(bits, shift)) * _signed(factor)
    return bits ^ _shifted(bits, 31)


def _signed(word: int) -> int:
    return word - (word >> 63 << 64)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """To the right, with zeros coming in from the left."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


@torch.no_grad()
def initialise(module: nn.Module, *, seed: int) -> None:
    """Give every parameter the values that its name and the seed determine, whatever else the network holds.

    Convolutions, and all of more than two dimensions: He et al. 2015, normal, fan out. Linear and `Readout`: uniform
    within 1/sqrt(fan in). Norms: one and zero. Scales of residual branches (`layer_scale`): 1e-6, as ConvNeXt (Liu et
    al. 2022). What a network's maker gave one value throughout keeps it (the slope of a PReLU).
    """
    convolutions = {f"{name}.weight": part for name, part in module.named_modules() if isinstance(part, nn.Conv2d)}
    for name, parameter in module.named_parameters():
        generator = keyed_generator(seed, "init", name)
        conv = convolutions.get(name)
        is_scale, is_readout = "layer_scale" in name, isinstance(conv, Readout)
        if is_one_value(parameter) and not is_scale:
            continue
        if parameter.ndim > 2 and not is_readout and not is_scale:
            groups = 1 if conv is None else conv.groups
            fan_out = parameter.shape[0] // groups * math.prod(parameter.shape[2:])
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * math.sqrt(2 / fan_out))
        elif parameter.ndim == 2 or is_readout:
            bound = 1 / math.sqrt(parameter.shape[1])
            parameter.copy_(torch.rand(parameter.shape, generator=generator) * (2 * bound) - bound)
        elif is_scale:
            parameter.fill_(1e-6)
        elif name.endswith("weight"):
            parameter.fill_(1)
        else:
            parameter.zero_()


def is_one_value(parameter: nn.Parameter) -> bool:
    """Whether the network's maker set it, not its random numbers."""
    first = parameter.flatten()[:1]
    return parameter.numel() > 1 and bool((parameter == first).all())


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of every parameter and buffer."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class BatchOrder:
    """The order of training images by epoch, with a digest of the orders that were really handed out."""

    def __init__(self, seed: int, *, count: int, batch_size: int) -> None:
        self.seed, self.count, self.batch_size = seed, count, batch_size
        self.handed_out: dict[int, str] = {}

    def __call__(self, epoch: int) -> Tensor:
        order = batch_order(self.seed, epoch=epoch, count=self.count)
        self.handed_out[epoch] = hashlib.sha256(order.numpy().tobytes()).hexdigest()
        return order

    def digest(self) -> str:
        """SHA-256 over every epoch's order and the batch size: equal digests mean equal batches."""
        text = f"{self.count} {self.batch_size} {sorted(self.handed_out.items())}"
        return hashlib.sha256(text.encode()).hexdigest()


class LayerNoise(pl.Callback):
    """Dropout and stochastic depth draw from PyTorch's own generator, which each epoch starts anew."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        others = [ranks.number()] if ranks.number() else []
        seed = keyed_seed(self.seed, "layers", trainer.current_epoch, *others)
        # As torch.manual_seed, of the devices in use: for any other it would keep the call, with its traceback, for
        # when that device begins, which takes 0.4 ms an epoch.
        torch.default_generator.manual_seed(seed)
        if module.device.type in ("cuda", "mps"):
            getattr(torch, module.device.type).manual_seed(seed)


class Augmentation:
    """What becomes of each training image in an epoch: a function of the seed, the epoch and the image's position in
    the training split, whatever the batches, the network, the threads or the device."""

    def __init__(self, seed: int, *, count: int, crop: int, flip: bool) -> None:
        self.seed, self.count, self.crop, self.flip = seed, count, crop, flip

    def __call__(self, epoch: int) -> Moves:
        bits = random_bits(keyed_seed(self.seed, "augment", epoch), self.count)
        choices = 2 * self.crop + 1
        down, right = (((_shifted(bits, by) & 0xFFFFFF) * choices) >> 24 for by in (0, 24))
        return Moves(self.crop, down, right, _shifted(bits, 63) if self.flip else None)
