"""The training loop: Lightning's, with a network, batches and callbacks made for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytorch_lightning as pl
import torch

from stridelab import names
from stridelab.data.batches import Batches
from stridelab.data.splits import Data, probe_images
from stridelab.geometry import LayerPlan, measure
from stridelab.models.build import build, load_weights

from . import ranks
from .batch_norm import synchronise_batch_norm
from .checkpoints import EpochCheckpoints, Start
from .feature_maps import FeatureMaps
from .joint_steps import Leaving, Seat, refuse_noise
from .lightning_trainer import trainer_of
from .memory import PeakMemory
from .module import Classifier
from .network_file import NetworkWeights
from .progress import Divergence, EarlyStopping, EpochMetrics, ProgressEvents
from .randomness import Augmentation, BatchOrder, LayerNoise, initialise, weights_digest
from .ranks import Rank
from .recorder import Progress, Recorder
from .resume import Attempts
from .runtime import device_of, dtype_of, layout_of
from .settings import EVAL_BATCH_SIZE, TrainerConfig
from .step_grouping import Steps, refuse_less_than_one, steps_of
from .tasks import TASKS, LearningTask
from .throughput import Throughput


@dataclass(frozen=True)
class Trained:
    trainer: pl.Trainer
    module: Classifier
    batches: dict[str, Batches]
    order: BatchOrder
    epochs: EpochMetrics
    throughput: Throughput
    maps: Sequence[FeatureMaps]
    weights: NetworkWeights
    attempts: Attempts
    init_digest: str
    fit_s: float


@dataclass(frozen=True)
class TrainingLoop:
    """All epochs of a fit, of all ranks at the same time: each does everything, and only rank 0 is heard."""

    plan: LayerPlan
    data: Data
    config: TrainerConfig
    seed: int
    recorder: Recorder
    owner: str
    """The run's signature, which its checkpoints bear."""
    task: str
    rank: Rank
    progress: Progress = lambda event: None
    callbacks: Sequence[pl.Callback] = ()
    """The caller's, which come before ours."""
    seat: Seat | None = None
    """Among the fits of other threads whose steps are done together."""

    def run(self, start: Start) -> Trained:
        config, recorder, task = self.config, self.recorder, TASKS[self.task]
        peak = PeakMemory.start(device_of(config), runs=1 if self.seat is None else self.seat.members)
        recorder.tags({names.PEAK_RSS: peak.meaning})
        network, init_digest = self.network()
        order = BatchOrder(self.seed, count=len(self.data.train.labels), batch_size=config.batch_size)
        steps = self.steps()
        batches = batches_of(self.data, config, order, steps, task=task)
        refuse_empty_passes(config, batches)
        module = Classifier(network, share_of(config), steps=steps, task=self.task, tell=self.tell_step, seat=self.seat)
        throughput, epochs, weights = Throughput(), EpochMetrics(recorder, task), NetworkWeights(config.max_epochs)
        maps = feature_maps(self.data, config, batches["test"], recorder)
        attempts = Attempts(order, throughput, peak)
        seen = [*self.watching(epochs), throughput, *maps, weights, attempts]
        last = [EpochCheckpoints(recorder.folder / "checkpoints", owner=self.owner), *self.leaving()]
        callbacks = [*self.callbacks, *seen, *last]
        trainer = trainer_of(config, recorder.folder, callbacks=callbacks, rank=self.rank)
        begin(trainer, module, batches, start)
        if self.seat is not None:
            self.seat.leave()  # where no epoch was left to train, no callback has
        fit_s = attempts.seconds()
        if start.own:
            epochs.record_again()
            for snapshots in maps:
                snapshots.record_again()
        throughput.train, throughput.eval = throughput.train.of_all(), throughput.eval.of_all()
        attempts.earlier_peak = attempts.peaks()  # of all ranks, while they are there
        return Trained(
            trainer, module, batches, order, epochs, throughput, maps, weights, attempts, init_digest, fit_s
        )  # fmt: skip

    def network(self) -> tuple[torch.nn.Module, str]:
        """As it begins, and the digest of its weights."""
        config = self.config
        network = untrained(self.plan, seed=self.seed, progress=self.progress)
        if self.seat is not None:
            refuse_noise(network)
        init_digest = weights_digest(network)
        network = network.to(dtype_of(config))  # Lightning would do so only after it has loaded a checkpoint, rounded
        if config.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if config.sync_batchnorm:
            synchronise_batch_norm(network)
        return network, init_digest

    def steps(self) -> Steps:
        images, outputs = self.data.train, measure(self.plan)[-1].output_elements
        return steps_of(self.config, count=len(images), image_shape=images.image_shape, outputs=outputs)

    def watching(self, epochs: EpochMetrics) -> list[pl.Callback]:
        patience = self.config.early_stopping
        stopping = [EarlyStopping(patience, epochs)] if patience else []
        return [LayerNoise(self.seed), Divergence(), epochs, *stopping, ProgressEvents(self.progress, epochs)]

    def leaving(self) -> list[pl.Callback]:
        return [] if self.seat is None else [Leaving(self.seat)]

    def tell_step(self, said: str) -> None:
        """How whole batches are trained on a GPU; a person is told where it is the slower way."""
        self.recorder.tags({names.STEP: said})
        if said != names.CUDA_GRAPH:
            self.progress({"said": said})


def refuse_empty_passes(config: TrainerConfig, batches: dict[str, Batches]) -> None:
    for stage, what in (("val", "validation batches"), ("test", "test batches")):
        refuse_less_than_one("limit_val_batches", config.limit_val_batches, count=len(batches[stage]), batches=what)


def share_of(config: TrainerConfig) -> TrainerConfig:
    """Of one rank, which sees its part of each batch; all else that counts images counts all ranks'."""
    return replace(config, batch_size=config.batch_size // config.devices, devices=1)


def untrained(plan: LayerPlan, *, seed: int, progress: Progress) -> torch.nn.Module:
    """The network of `plan` with the weights that the seed, or the file that the plan names, gives it."""
    network = build(plan)
    initialise(network, seed=seed)
    for said in load_weights(network, plan):
        progress({"said": said})
    return network


def begin(trainer: pl.Trainer, module: Classifier, batches: dict[str, Batches], start: Start) -> None:
    """ValueError when the checkpoint that a person gave is of another network."""
    path = None if start.path is None else str(start.path)
    try:
        trainer.fit(module, batches["train"], batches["val"], ckpt_path=path, weights_only=True)
    except RuntimeError as error:
        if "Error(s) in loading state_dict" in str(error):
            raise ValueError(f"ckpt_path={path} is of another network: {' '.join(str(error).split())}") from None
        raise


def batches_of(
    data: Data, config: TrainerConfig, order: BatchOrder, steps: Steps, *, task: LearningTask = TASKS["classify"]
) -> dict[str, Batches]:
    batches = partial(
        Batches,
        mean=data.spec.mean,
        std=data.spec.std,
        memory_format=layout_of(config),
        device=device_of(config),
    )
    several = ranks.size() > 1
    share = partial(ranks.share, grain=config.batch_size) if several else None
    share_evaluated = partial(ranks.share, grain=EVAL_BATCH_SIZE) if several else None
    augment = Augmentation(order.seed, count=order.count, crop=config.crop, flip=config.flip)
    return {
        "train": batches(
            data.train,
            targets=task.targets(data.train),
            batch_size=config.images_a_step * steps.at_once,
            order=order,
            augment=augment if config.crop or config.flip else None,
            share=share,
        ),
        "val": batches(data.val, targets=task.targets(data.val), batch_size=EVAL_BATCH_SIZE, share=share_evaluated),
        "test": batches(data.test, targets=task.targets(data.test), batch_size=EVAL_BATCH_SIZE),
    }


def feature_maps(data: Data, config: TrainerConfig, batches: Batches, recorder: Recorder) -> list[FeatureMaps]:
    if not config.feature_map_images:
        return []
    raw = probe_images(data, config.feature_map_images)
    return [
        FeatureMaps(
            batches.normalised(raw),
            raw,
            channels=config.feature_map_channels,
            epochs=config.max_epochs,
            recorder=recorder,
        )
    ]
