"""Many runs, one question: what is done, what is left, the parent run, the live board."""

from .conduct import conduct

__all__ = ["conduct"]
