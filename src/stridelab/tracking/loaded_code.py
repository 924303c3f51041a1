"""The sources that train, loaded: all of them when this module is imported, before any run and before any fork.

What is loaded late could be another text than the one that was signed."""

from __future__ import annotations

from importlib import import_module

from .signature import PACKAGE, code_digest, training_sources


def _load() -> str:
    before = code_digest()
    for path in training_sources():
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        import_module(".".join(parts).removesuffix(".__init__"))
    code_digest.cache_clear()
    return before if code_digest() == before else "changed while it was loaded"


LOADED_DIGEST = _load()
"""As `code_digest`, of what is loaded in this process and in those that are forked from it."""


def refuse_other_code(signed: str) -> None:
    """ValueError when a run was signed with other code than this process has loaded; `signed` empty: not known."""
    if signed and signed != LOADED_DIGEST:
        raise ValueError(
            f"the source of stridelab was edited since the sweep began: its digest was {signed[:12]}, and what is "
            f"loaded now is {LOADED_DIGEST[:12]}. Results are not mixed; run the command again."
        )
