"""What a person chooses about training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from stridelab.names import NO_EFFECT

from .optimizers import OPTIMIZERS

SCHEDULES = ("one_cycle", "cosine", "constant")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
ACCELERATORS = ("cpu", "gpu", "mps", "auto")
PROFILERS = ("simple", "advanced")
EVAL_BATCH_SIZE = 500
"""Images of a pass over the validation and test splits."""
MOST = {"threads": 1024, "devices": 64, "feature_map_images": 4096}
"""The largest value of some counts; of all others, that of 32 bits."""


@dataclass(frozen=True)
class TrainerConfig:
    """`optimizer` for `max_epochs`, through pytorch_lightning.Trainer."""

    max_epochs: int = 5
    """Passes over the training split."""
    early_stopping: int | None = None
    """Training ends after this many epochs without a lower val/loss, with the weights of the last one; null: never.
    one_cycle and cosine stay spread over max_epochs: where they are cut off, the rate has not come down."""
    batch_size: int = 64
    """Images a forward and backward pass; a step's, unless gradients are accumulated."""
    accumulate: int = 1
    """Batches whose gradients are averaged, over their images, for one step; all else that counts batches counts
    steps. Batch norm sees one batch at a time."""
    optimizer: str = field(default="sgd", metadata={"choices": OPTIMIZERS})
    """What takes the steps."""
    lr: Any = None
    """Peak learning rate of the schedule; null: 0.3 with sgd, 0.003 with adamw."""
    momentum: float = 0.9
    """SGD's momentum (Nesterov); of adamw the first of its betas, whose second is 0.999."""
    weight_decay: float = 1e-4
    """On convolution and linear weights, none on biases and norms: with sgd an L2 penalty, with adamw a share of the
    weight, times the rate, taken off each step (0.05 is usual there)."""
    schedule: str = "one_cycle"
    """Learning rate a step: one_cycle, cosine or constant."""
    warmup: Any = 0
    """Share (float) or number (int) of all steps in which the rate of cosine or constant first rises, in equal parts;
    one_cycle rises by itself."""
    ema: float = 0.0
    """Decay of a moving average of the weights, such as 0.999; that average is then what is validated, tested and kept
    as the trained network. 0: none. After few steps it decays faster: by (1 + t) / (10 + t) at step t."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes, at training only."""
    crop: int = 0
    """Pixels of black put around each training image, of which a part of its own size is cut at random; 0: none."""
    flip: bool = False
    """Mirror each training image, left to right, with probability 1/2."""
    precision: str = "32-true"
    """As in Lightning: 32-true, bf16-mixed, 16-mixed or 64-true."""
    tf32: bool = True
    """TF32 in convolutions and matrix products of 32 bits on an NVIDIA GPU (Ampere or later): factors are rounded to
    10 bits of mantissa, sums keep 32 bits. false: full 32 bits, several times slower. Of no effect elsewhere."""
    accelerator: str = "cpu"
    """cpu, gpu, mps or auto."""
    devices: int = 1
    """Devices of this machine that train a run together, a process each: the same batches, each image on one of them.
    Of accelerator=cpu a device is a process of trainer.threads."""
    sync_batchnorm: bool = False
    """Batch norm over the whole batch where several devices share it, as one device has it; false: each over its
    part, which costs no communication."""
    threads: int = 1
    """CPU threads a run; another count gives other bits."""
    channels_last: bool = True
    """NHWC memory layout: the same numbers, faster convolutions on CPU."""
    compile: bool = False
    """Compile the training step's forward and backward pass with torch.compile: seconds once, then kept on disk."""
    cuda_graph: bool = True
    """On an NVIDIA GPU, record the step of a whole batch as a CUDA graph and replay it: the same bits, without the
    processor's work for each operation. What cannot be recorded trains as it is, and the run says why."""
    deterministic: bool = True
    """Refuse operations that have no deterministic form."""
    feature_map_images: int = 4
    """Test images whose feature maps are kept; 0 keeps none. Of cnn, behind each convolution; of other networks, behind
    eight at most, larger than 1x1, evenly spread from the first to the last."""
    feature_map_channels: int = 16
    """Channels a layer kept of each, at most."""
    limit_train_batches: Any = 1.0
    """Share (float) or number (int) of training batches an epoch; for debugging: the schedule, and the share of warmup,
    stay spread over whole epochs."""
    limit_val_batches: Any = 1.0
    """Share or number of validation and test batches; for debugging."""
    overfit_batches: Any = 0.0
    """Train and validate on this share or number of batches; for debugging."""
    profiler: str | None = field(default=None, metadata=NO_EFFECT)
    """simple or advanced: Lightning's profile, written into the run's folder."""
    timeout_min: float | None = field(default=None, metadata=NO_EFFECT)
    """Minutes after which a run is ended as timed out (the same command goes on with it); null: never."""
    benchmark: bool = field(default=False, metadata=NO_EFFECT)
    """After training, before the report, measure the speed of all variants in turns and record it in their runs."""

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "accumulate", "devices", "threads"):
            require(name, getattr(self, name), at_least=1)
        if self.batch_size % self.devices:
            raise ValueError(
                f"trainer.batch_size={self.batch_size} must be a multiple of trainer.devices={self.devices}, which "
                "share each batch out among themselves."
            )
        if self.devices > 1 and self.accelerator == "mps":
            raise ValueError(f"trainer.devices={self.devices}: trainer.accelerator=mps is one device.")
        if self.early_stopping is not None:
            require("early_stopping", self.early_stopping, at_least=1)
        for name in ("momentum", "weight_decay", "label_smoothing", "ema", "crop", "feature_map_images"):
            require(name, getattr(self, name), at_least=0)
        require("feature_map_channels", self.feature_map_channels, at_least=1)
        for name in ("momentum", "label_smoothing", "ema"):
            if getattr(self, name) >= 1:
                raise ValueError(f"trainer.{name}={getattr(self, name)} must be less than 1.")
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                offered = ", ".join(str(choice) for choice in choices)
                raise ValueError(f"trainer.{name}={value!r} is not one of its choices; choose one of {offered}.")
        lr = OPTIMIZERS[self.optimizer].lr if self.lr is None else self.lr
        if isinstance(lr, bool) or not isinstance(lr, int | float):
            raise ValueError(f"trainer.lr={lr}: a number is expected, or null.")
        if not 0 < lr < math.inf:
            raise ValueError(f"trainer.lr={float(lr)} must be greater than 0 and finite.")
        object.__setattr__(self, "lr", float(lr))
        require_share("warmup", self.warmup, of="steps")
        if self.warmup and self.schedule == "one_cycle":
            raise ValueError(
                f"trainer.warmup={self.warmup} with trainer.schedule=one_cycle: it rises by itself, for a quarter of "
                "the steps; choose trainer.schedule=cosine or constant, or trainer.warmup=0."
            )
        if self.timeout_min is not None and not self.timeout_min > 0:
            raise ValueError(f"trainer.timeout_min={self.timeout_min} must be greater than 0, or null.")
        for name in ("limit_train_batches", "limit_val_batches", "overfit_batches"):
            require_share(name, getattr(self, name))
        for name, what in (("limit_train_batches", "train"), ("limit_val_batches", "validate and test")):
            if not getattr(self, name):
                raise ValueError(f"trainer.{name}={getattr(self, name)} leaves nothing to {what} on.")
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            others = ", ".join(name for name in PRECISIONS if name != self.precision)
            raise ValueError(
                f"trainer.precision=16-mixed needs trainer.accelerator=gpu; on a CPU, choose one of {others}."
            )

    @property
    def images_a_step(self) -> int:
        return self.batch_size * self.accumulate

    def warmup_steps(self, num_steps: int) -> int:
        """Of `num_steps` in all. ValueError where none is left for the schedule itself."""
        wanted = self.warmup if isinstance(self.warmup, int) else round(self.warmup * num_steps)
        if 0 < wanted >= num_steps:
            raise ValueError(
                f"trainer.warmup={self.warmup} is {wanted:,} steps, and the training has {num_steps:,} in all, which "
                f"leaves none for trainer.schedule={self.schedule}; choose a shorter one, or more trainer.max_epochs."
            )
        return int(wanted)


CHOICES: dict[str, tuple[str | None, ...]] = {
    "optimizer": tuple(OPTIMIZERS),
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "accelerator": ACCELERATORS,
    "profiler": (None, *PROFILERS),
}


def require(name: str, value: float, *, at_least: int) -> None:
    if not at_least <= value < math.inf:  # nor is nan
        raise ValueError(f"trainer.{name}={value} must be at least {at_least}{' and finite' * (value > 0)}.")
    if value > (most := MOST.get(name, 2**31 - 1)):
        raise ValueError(f"trainer.{name}={value} must be at most {most:,}.")


def require_share(name: str, value: object, *, of: str = "batches") -> None:
    share = isinstance(value, float) and 0 <= value <= 1
    count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    if not (share or count):
        raise ValueError(f"trainer.{name}={value!r} must be a share (0.0 to 1.0) or a number of {of}.")
