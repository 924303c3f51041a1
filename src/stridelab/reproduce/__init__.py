"""Run a stored run again, and say whether it is the same: what is needed, what differs around it, the verdict."""

from .again import find, reproduce

__all__ = ["find", "reproduce"]
