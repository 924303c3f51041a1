"""The only room that knows Hydra: `key=value` arguments to frozen dataclasses."""

from .axes import GridPoint, expand, load
from .compose import CONF
from .schema import Config

__all__ = ["CONF", "Config", "GridPoint", "expand", "load"]
