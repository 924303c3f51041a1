"""A compiled step on a GPU; its own file, since a compiler takes a minute the first time: whoever has a GPU for minutes
tries it last."""

from __future__ import annotations

import pytest
from fits import ACCELERATOR, Fits


@pytest.mark.timeout(240)
@pytest.mark.filterwarnings("default")  # the compiler's advice
def test_fast_trains_and_repeats_itself(fits: Fits) -> None:
    words = ("trainer=fast", ACCELERATOR)
    first = fits(*words)
    assert first.bits == fits.again(*words).bits
    assert first.step == "", "a compiled step is not recorded"
    assert first.values["train/loss", 2] < first.values["train/loss", 1]
