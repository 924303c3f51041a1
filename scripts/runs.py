"""python scripts/runs.py --help"""

from stridelab.cli.runs import main

if __name__ == "__main__":
    main()
