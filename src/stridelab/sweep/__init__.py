"""Many runs, one question: what is done, what is left, the parent run, the live board."""

from .sweep import conduct

__all__ = ["conduct"]
