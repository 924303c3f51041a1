"""One fit, from a layer plan and images in memory to numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch

from stridelab import names
from stridelab.data.batches import Batches
from stridelab.data.splits import Data, probe_images
from stridelab.geometry import LayerPlan, measure
from stridelab.models.build import build, load_weights
from stridelab.system.memory import MIB
from stridelab.system.points import point

from . import ranks
from .batch_norm import synchronise_batch_norm
from .checkpoints import EpochCheckpoints, Start, refuse_unfit_checkpoint, starting_point
from .feature_maps import FeatureMaps
from .joint_steps import Leaving, Seat, refuse_noise
from .lightning_trainer import trainer_of
from .memory import PeakMemory, measured_saved_bytes
from .module import Classifier
from .network_file import NetworkWeights, save_network
from .progress import Divergence, EarlyStopping, EpochMetrics, ProgressEvents
from .randomness import Augmentation, BatchOrder, LayerNoise, initialise, weights_digest
from .ranks import ALONE, Rank, gather, together
from .recorder import Progress, Recorder, Silent
from .result import Result
from .resume import Attempts
from .runtime import device_of, dtype_of, layout_of, prepare_process
from .settings import EVAL_BATCH_SIZE, TrainerConfig
from .step_grouping import Steps, refuse_less_than_one, steps_of
from .tasks import TASKS, LearningTask
from .throughput import Throughput, batch1_latency_ms


def fit(
    plan: LayerPlan,
    data: Data,
    config: TrainerConfig,
    *,
    seed: int,
    recorder: Recorder,
    progress: Progress = lambda event: None,
    ckpt_path: str | None = None,
    owner: str = "",
    callbacks: Sequence[pl.Callback] = (),
    task: str = "classify",
    rank: Rank = ALONE,
    seat: Seat | None = None,
) -> Result:
    """Train, evaluate once on the test split, and record everything on the way. Goes on from the newest sound
    checkpoint that `owner` (the run's signature) left in the recorder's folder; without one, from `ckpt_path`.
    `callbacks` of the caller come before ours. `rank`: 0 of `trainer.devices`, whose others `take_part` meanwhile.
    `seat`: among the fits of other threads whose steps are done together."""
    began = perf_counter()
    prepare_process(config)
    checkpoints = recorder.folder / "checkpoints"
    start = starting_point(checkpoints, owner=owner, given=ckpt_path)
    if ckpt_path is not None and not start.own:
        refuse_unfit_checkpoint(Path(ckpt_path), config, count=len(data.train))
    tell_start(start, recorder, progress)
    with together(rank, device_of(config)):
        made = trained(
            plan, data, config, seed=seed, recorder=recorder, progress=progress, start=gather(start)[0],
            owner=owner, callbacks=callbacks, task=task, rank=rank, seat=seat,
        )  # fmt: skip
    module, order, epochs = made.module, made.order, made.epochs
    point("fit.ended")
    alone = trainer_of(config, recorder.folder, callbacks=[]) if rank.of > 1 else made.trainer
    alone.test(module, made.batches["test"], verbose=False)
    trained_network = module.evaluated

    metrics = epochs.final | module.take_metrics("test") | made.attempts.peaks()
    image = made.batches["test"].normalised(data.test.take(slice(1)))
    metrics |= measured(trained_network, plan, share_of(config), made.throughput, image=image)
    if seat is not None:
        seat.go()
    metrics |= {"time/fit_s": made.fit_s, "time/total_s": made.attempts.earlier_s + perf_counter() - began}
    for epoch in range(max(epochs.history), config.max_epochs):
        order(epoch)  # left out by early stopping: equal digests still mean equal batches, as far as each run went
    metrics |= {"final/epoch": float(max(epochs.history))} if config.early_stopping else {}
    recorder.metrics(metrics, step=0)  # once a run: MLflow draws bars of what has no later step
    attach(recorder, module, made.maps)
    recorder.artifact(save_network(made.weights, plan, data, recorder.folder))
    return Result(
        metrics=metrics,
        init_digest=made.init_digest,
        batch_order_digest=order.digest(),
        weights_digest=weights_digest(trained_network),
        train_images_timed=made.throughput.train.images,
        train_seconds_timed=made.throughput.train.seconds,
    )


def take_part(
    plan: LayerPlan, data: Data, config: TrainerConfig, *, seed: int, folder: Path, owner: str, task: str, rank: Rank
) -> None:
    """As another rank than 0: train as it does, and record nothing."""
    prepare_process(config)
    with together(rank, device_of(config)):
        trained(
            plan, data, config, seed=seed, recorder=Silent(folder), progress=lambda event: None,
            start=gather(Start())[0], owner=owner, callbacks=(), task=task, rank=rank,
        )  # fmt: skip


@dataclass(frozen=True)
class Fitted:
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


def trained(
    plan: LayerPlan,
    data: Data,
    config: TrainerConfig,
    *,
    seed: int,
    recorder: Recorder,
    progress: Progress,
    start: Start,
    owner: str,
    callbacks: Sequence[pl.Callback],
    task: str,
    rank: Rank,
    seat: Seat | None = None,
) -> Fitted:
    """All epochs, of all ranks at the same time: each does everything, and only rank 0 is heard."""
    peak = PeakMemory.start(device_of(config), runs=1 if seat is None else seat.members)
    recorder.tags({names.PEAK_RSS: peak.meaning})
    network = untrained(plan, seed=seed, progress=progress)
    if seat is not None:
        refuse_noise(network)
    init_digest = weights_digest(network)
    network = network.to(dtype_of(config))  # Lightning would do so only after it has loaded a checkpoint, rounded
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if config.sync_batchnorm:
        synchronise_batch_norm(network)
    order = BatchOrder(seed, count=len(data.train.labels), batch_size=config.batch_size)
    steps = steps_of(config, count=len(data.train), image_shape=data.train.image_shape, outputs=outputs_of(plan))
    batches = batches_of(data, config, order, steps, task=TASKS[task])
    for stage, what in (("val", "validation batches"), ("test", "test batches")):
        refuse_less_than_one("limit_val_batches", config.limit_val_batches, count=len(batches[stage]), batches=what)
    tell = partial(tell_step, recorder, progress)
    module = Classifier(network, share_of(config), steps=steps, task=task, tell=tell, seat=seat)
    throughput, epochs = Throughput(), EpochMetrics(recorder, TASKS[task])
    maps = feature_maps(data, config, batches["test"], recorder)
    attempts = Attempts(order, throughput, peak)
    checkpoints = EpochCheckpoints(recorder.folder / "checkpoints", owner=owner)
    stopping = [EarlyStopping(config.early_stopping, epochs)] if config.early_stopping else []
    events, weights = ProgressEvents(progress, epochs), NetworkWeights(config.max_epochs)
    ours = [LayerNoise(seed), Divergence(), epochs, *stopping, events, throughput, *maps, weights, attempts]
    last = [checkpoints, *([] if seat is None else [Leaving(seat)])]
    trainer = trainer_of(config, recorder.folder, callbacks=[*callbacks, *ours, *last], rank=rank)
    begin(trainer, module, batches, start)
    if seat is not None:
        seat.leave()
    fit_s = attempts.seconds()
    if start.own:
        epochs.record_again()
        for snapshots in maps:
            snapshots.record_again()
    throughput.train, throughput.eval = throughput.train.of_all(), throughput.eval.of_all()
    attempts.earlier_peak = attempts.peaks()  # of all ranks, while they are there
    return Fitted(
        trainer, module, batches, order, epochs, throughput, maps, weights, attempts, init_digest, fit_s
    )  # fmt: skip


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


def attach(recorder: Recorder, module: Classifier, maps: Sequence[FeatureMaps]) -> None:
    """What the network said of the test images, and the maps that were kept of some of them."""
    if predictions := module.save_predictions(recorder.folder):
        recorder.artifact(predictions)
    for snapshots in maps:
        recorder.artifact(snapshots.save(recorder.folder), to="feature_maps")


def tell_start(start: Start, recorder: Recorder, progress: Progress) -> None:
    for sentence in start.said:
        progress({"said": sentence})
    if start.path is not None:
        progress({"said": f"goes on after epoch {start.epoch}"})
        recorder.tags({names.CONTINUED_FROM: f"epoch {start.epoch} of {start.path.parent.parent.name}"})


def tell_step(recorder: Recorder, progress: Progress, said: str) -> None:
    """How whole batches are trained on a GPU; a person is told where it is the slower way."""
    recorder.tags({names.STEP: said})
    if said != names.CUDA_GRAPH:
        progress({"said": said})


def begin(trainer: pl.Trainer, module: Classifier, batches: dict[str, Batches], start: Start) -> None:
    """ValueError when the checkpoint that a person gave is of another network."""
    path = None if start.path is None else str(start.path)
    try:
        trainer.fit(module, batches["train"], batches["val"], ckpt_path=path, weights_only=True)
    except RuntimeError as error:
        if "Error(s) in loading state_dict" in str(error):
            raise ValueError(f"ckpt_path={path} is of another network: {' '.join(str(error).split())}") from None
        raise


def outputs_of(plan: LayerPlan) -> int:
    """Numbers that the network makes of one image."""
    return measure(plan)[-1].output_elements


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


def measured(
    network: Any, plan: LayerPlan, config: TrainerConfig, throughput: Throughput, *, image: torch.Tensor
) -> dict[str, float]:
    """Figures of this machine and this moment, as far as they could be measured."""
    shape = (config.batch_size, plan.input_channels, *plan.input_size)
    found = {
        "throughput/train_images_per_s": throughput.train.images_per_s,
        "throughput/train_timed_images": throughput.train.images,
        "throughput/train_timed_s": throughput.train.seconds,
        "throughput/eval_images_per_s": throughput.eval.images_per_s,
        "latency/batch1_ms": batch1_latency_ms(network, image, precision=config.precision),
        "memory/saved_activations_mib": measured_saved_bytes(network, shape, precision=config.precision) / MIB,
        "memory/params_mib": sum(p.numel() * p.element_size() for p in network.parameters()) / MIB,
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}
