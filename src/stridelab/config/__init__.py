"""The only room that knows Hydra: `key=value` arguments to frozen dataclasses."""

from .compose import CONF, GridPoint, expand, load
from .schema import Config

__all__ = ["CONF", "Config", "GridPoint", "expand", "load"]
