"""One fit, from a layer plan and images in memory to numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.profilers import AdvancedProfiler, SimpleProfiler

from stridelab import names
from stridelab.data.batches import Batches
from stridelab.data.splits import Data, probe_images
from stridelab.geometry import LayerPlan, measure
from stridelab.models.build import build, load_weights
from stridelab.system.memory import MIB
from stridelab.system.points import point

from .checkpoints import AtomicCheckpointIO, EpochCheckpoints, Start, refuse_unfit_checkpoint, starting_point
from .feature_maps import FeatureMaps
from .memory import PeakMemory, measured_saved_bytes
from .module import Classifier
from .network_file import NetworkWeights, save_network
from .progress import Divergence, EarlyStopping, EpochMetrics, ProgressEvents
from .randomness import Augmentation, BatchOrder, LayerNoise, initialise, weights_digest
from .recorder import Progress, Recorder
from .result import Result
from .resume import Attempts
from .runtime import device_of, layout_of, prepare_process
from .settings import TrainerConfig
from .step_grouping import Steps, refuse_less_than_one, steps_of
from .tasks import TASKS, Task
from .throughput import Throughput, batch1_latency_ms

EVAL_BATCH_SIZE = 500
PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}


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
) -> Result:
    """Train, evaluate once on the test split, and record everything on the way. Goes on from the newest sound
    checkpoint that `owner` (the run's signature) left in the recorder's folder; without one, from `ckpt_path`.
    `callbacks` of the caller come before ours."""
    began = perf_counter()
    prepare_process(config)
    checkpoints = recorder.folder / "checkpoints"
    start = starting_point(checkpoints, owner=owner, given=ckpt_path)
    if ckpt_path is not None and not start.own:
        refuse_unfit_checkpoint(Path(ckpt_path), config, count=len(data.train))
    tell(start, recorder, progress)
    peak = PeakMemory.start(device_of(config))
    recorder.tags({names.PEAK_RSS: peak.meaning})
    network = untrained(plan, seed=seed, progress=progress)
    init_digest = weights_digest(network)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)

    order = BatchOrder(seed, count=len(data.train.labels), batch_size=config.batch_size)
    steps = steps_of(config, count=len(data.train), image_shape=data.train.image_shape, outputs=outputs_of(plan))
    batches = batches_of(data, config, order, steps, task=TASKS[task])
    for stage, what in (("val", "validation batches"), ("test", "test batches")):
        refuse_less_than_one("limit_val_batches", config.limit_val_batches, count=len(batches[stage]), batches=what)
    module = Classifier(network, config, steps=steps, task=task)
    throughput, epochs = Throughput(), EpochMetrics(recorder, TASKS[task])
    maps = feature_maps(data, config, batches["test"], recorder)
    attempts = Attempts(order, throughput, peak)
    events, keeping = ProgressEvents(progress, epochs), EpochCheckpoints(checkpoints, owner=owner)
    stopping = [EarlyStopping(config.early_stopping, epochs)] if config.early_stopping else []
    weights = NetworkWeights(config.max_epochs)
    ours = [LayerNoise(seed), Divergence(), epochs, *stopping, events, throughput, *maps, weights, attempts, keeping]
    trainer = trainer_of(config, recorder.folder, callbacks=[*callbacks, *ours])
    begin(trainer, module, batches, start)
    fit_s = attempts.seconds()
    if start.own:
        epochs.record_again()
        for snapshots in maps:
            snapshots.record_again()
    point("fit.ended")
    trainer.test(module, batches["test"], verbose=False)
    trained_network = module.evaluated

    metrics = epochs.final | module.take_metrics("test") | attempts.peaks()
    metrics |= measured(
        trained_network, plan, config, throughput, image=batches["test"].normalised(data.test.take(slice(1)))
    )
    metrics |= {"time/fit_s": fit_s, "time/total_s": attempts.earlier_s + perf_counter() - began}
    trained = max(epochs.history)
    for epoch in range(trained, config.max_epochs):
        order(epoch)  # left out by early stopping: equal digests still mean equal batches, as far as each run went
    metrics |= {"final/epoch": float(trained)} if stopping else {}
    recorder.metrics(metrics, step=0)  # once a run: MLflow draws bars of what has no later step
    attach(recorder, module, maps)
    recorder.artifact(save_network(weights, plan, data, recorder.folder))
    return Result(
        metrics=metrics,
        init_digest=init_digest,
        batch_order_digest=order.digest(),
        weights_digest=weights_digest(trained_network),
        train_images_timed=throughput.train.images,
        train_seconds_timed=throughput.train.seconds,
    )


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


def tell(start: Start, recorder: Recorder, progress: Progress) -> None:
    for sentence in start.said:
        progress({"said": sentence})
    if start.path is not None:
        progress({"said": f"goes on after epoch {start.epoch}"})
        recorder.tags({names.CONTINUED_FROM: f"epoch {start.epoch} of {start.path.parent.parent.name}"})


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
    data: Data, config: TrainerConfig, order: BatchOrder, steps: Steps, *, task: Task = TASKS["classify"]
) -> dict[str, Batches]:
    batches = partial(
        Batches,
        mean=data.spec.mean,
        std=data.spec.std,
        memory_format=layout_of(config),
        device=device_of(config),
    )
    augment = Augmentation(order.seed, count=order.count, crop=config.crop, flip=config.flip)
    return {
        "train": batches(
            data.train,
            targets=task.targets(data.train),
            batch_size=config.images_a_step * steps.at_once,
            order=order,
            augment=augment if config.crop or config.flip else None,
        ),
        "val": batches(data.val, targets=task.targets(data.val), batch_size=EVAL_BATCH_SIZE),
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


def trainer_of(config: TrainerConfig, folder: Path, *, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=config.max_epochs,
        accelerator=config.accelerator,
        devices=config.devices,
        precision=config.precision,  # type: ignore[arg-type]
        deterministic=config.deterministic,
        limit_train_batches=config.limit_train_batches,
        limit_val_batches=config.limit_val_batches,
        limit_test_batches=config.limit_val_batches,
        overfit_batches=config.overfit_batches,
        profiler=config.profiler and PROFILERS[config.profiler](dirpath=folder, filename="profile"),
        default_root_dir=folder,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],  # whatever a cluster's variables say
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


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
