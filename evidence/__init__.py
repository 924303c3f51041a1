"""The experiments on stride and what they found: tables in results/reference/, the page docs/findings.md.

Outside the package: what is here reads finished sweeps and writes what is committed of them.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference"
EXPERIMENTS = ROOT / "conf" / "experiment"
PAGE = ROOT / "docs" / "findings.md"
