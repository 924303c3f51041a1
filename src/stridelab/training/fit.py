"""One fit, from a layer plan and images in memory to numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import pytorch_lightning as pl
import torch

from stridelab import names
from stridelab.data.splits import Data
from stridelab.geometry import LayerPlan
from stridelab.system.memory import MIB
from stridelab.system.points import point

from .checkpoints import Start, refuse_unfit_checkpoint, starting_point
from .feature_maps import FeatureMaps
from .joint_steps import Seat
from .lightning_trainer import trainer_of
from .loop import TrainingLoop, share_of
from .memory import measured_saved_bytes
from .module import Classifier
from .network_file import save_network
from .randomness import weights_digest
from .ranks import ALONE, Rank, gather, together
from .recorder import Progress, Recorder, Silent
from .result import Result
from .runtime import device_of, prepare_process
from .settings import TrainerConfig
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
    loop = TrainingLoop(plan, data, config, seed, recorder, owner, task, rank, progress, callbacks, seat)
    with together(rank, device_of(config)):
        made = loop.run(gather(start)[0])
    module, order, epochs = made.module, made.order, made.epochs
    point("fit.ended")
    alone = trainer_of(config, recorder.folder, callbacks=[]) if rank.of > 1 else made.trainer
    alone.test(module, made.batches["test"], verbose=False)

    metrics = epochs.final | module.take_metrics("test") | made.attempts.peaks()
    image = made.batches["test"].normalised(data.test.take(slice(1)))
    metrics |= measured(module, plan, share_of(config), made.throughput, image=image)
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
        weights_digest=weights_digest(module.evaluated),
    )


def take_part(
    plan: LayerPlan, data: Data, config: TrainerConfig, *, seed: int, folder: Path, owner: str, task: str, rank: Rank
) -> None:
    """As another rank than 0: train as it does, and record nothing."""
    prepare_process(config)
    with together(rank, device_of(config)):
        TrainingLoop(plan, data, config, seed, Silent(folder), owner, task, rank).run(gather(Start())[0])


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


def measured(
    module: Classifier, plan: LayerPlan, config: TrainerConfig, throughput: Throughput, *, image: torch.Tensor
) -> dict[str, float]:
    """Figures of this machine and this moment, as far as they could be measured."""
    shape = (config.batch_size, plan.input_channels, *plan.input_size)
    latency_ms = batch1_latency_ms(module.evaluated, image, precision=config.precision)
    network = module.network.to(image.device).train()  # an average of its weights keeps nothing
    found = {
        "throughput/train_images_per_s": throughput.train.images_per_s,
        "throughput/train_timed_images": throughput.train.images,
        "throughput/train_timed_s": throughput.train.seconds,
        "throughput/eval_images_per_s": throughput.eval.images_per_s,
        "latency/batch1_ms": latency_ms,
        "memory/saved_activations_mib": measured_saved_bytes(network, shape, precision=config.precision) / MIB,
        "memory/params_mib": sum(p.numel() * p.element_size() for p in network.parameters()) / MIB,
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}
