"""Batch norm over the images of all devices. PyTorch's own of this kind refuses tensors of a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .ranks import size


class Sum(torch.autograd.Function):
    """Over all ranks; the sum's gradient is that of all of them, too."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class OverAll(nn.modules.batchnorm._BatchNorm):
    """Mixed into a batch norm: mean and variance are those of all ranks' images together (Ioffe and Szegedy 2015, over
    the whole batch), and so are the gradients through them."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training or size() == 1:
            return super().forward(images)
        axes = [0, *range(2, images.ndim)]
        shape = [1, -1, *[1] * (images.ndim - 2)]
        values = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums: Tensor = Sum.apply(torch.cat([values.sum(axes), count]))
        mean, total = sums[:-1] / sums[-1], sums[-1].detach()
        centred = values - mean.view(shape)
        variance: Tensor = Sum.apply(centred.square().sum(axes)) / total
        made = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            made = made * self.weight.view(shape) + self.bias.view(shape)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.detach(), rate)
            self.running_var.lerp_(variance.detach() * (total / (total - 1)), rate)
        return made.to(images.dtype)


class BatchNorm1d(OverAll, nn.BatchNorm1d):
    pass


class BatchNorm2d(OverAll, nn.BatchNorm2d):
    pass


KINDS: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm1d: BatchNorm1d, nn.BatchNorm2d: BatchNorm2d}


def synchronise_batch_norm(network: nn.Module) -> None:
    """Parameters, buffers and their names stay as they are; on one device, so does all else."""
    for module in network.modules():
        module.__class__ = KINDS.get(type(module), type(module))
