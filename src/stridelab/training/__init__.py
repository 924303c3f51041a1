"""The one LightningModule, the fit, and every source of randomness."""

from .result import Result
from .settings import TrainerConfig

__all__ = ["Result", "TrainerConfig"]
