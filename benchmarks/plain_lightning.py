"""What a user would write: torchvision's data set and transforms, a DataLoader, a plain Lightning module, a default
Trainer with a CSV logger. Imports nothing of Stridelab; run by benchmark/training.py, prints images a second."""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST  # type: ignore[import-untyped]
from torchvision.transforms import Compose, Normalize, ToTensor  # type: ignore[import-untyped]


class Plain(pl.LightningModule):
    def __init__(self, strides: list[int], channels: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in zip([1, *channels], channels, strides, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10))
        self.rates: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = nn.functional.cross_entropy(logits, labels)
        self.log("train/loss", loss)
        self.log("train/acc", (logits.argmax(1) == labels).float().mean())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, labels = batch
        self.log("val/acc", (self.network(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4)

    def on_train_epoch_start(self) -> None:
        self.began, self.images = perf_counter(), 0

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.images += len(batch[1])
        if index + 1 == self.trainer.num_training_batches:
            self.rates.append(self.images / (perf_counter() - self.began))


def main() -> None:
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    transform = Compose([ToTensor(), Normalize(given["mean"], given["std"])])
    train, val = (
        DataLoader(
            FashionMNIST(given["root"], train=train, transform=transform),
            batch_size=given["batch"],
            shuffle=train,
            num_workers=given["workers"],
        )
        for train in (True, False)
    )
    module = Plain(given["strides"], given["channels"])
    trainer = pl.Trainer(max_epochs=given["epochs"], accelerator="cpu", logger=CSVLogger(given["root"]))
    trainer.fit(module, train, val)
    print(json.dumps(module.rates))


if __name__ == "__main__":
    main()
