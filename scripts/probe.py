"""python scripts/probe.py --help"""

from stridelab.cli.probe import main

if __name__ == "__main__":
    main()
