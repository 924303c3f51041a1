"""`python -m evidence reference EXPERIMENT [results]`, `python -m evidence findings`"""

import sys
from pathlib import Path

from stridelab.cli.refusal import refusing

from .page import write_findings
from .reference import write_reference

if __name__ == "__main__":
    with refusing():
        match sys.argv[1:]:
            case ["reference", experiment]:
                print(write_reference(experiment, Path("results")))
            case ["reference", experiment, results]:
                print(write_reference(experiment, Path(results)))
            case ["findings"]:
                write_findings()
            case _:
                raise ValueError(__doc__)
