"""python scripts/benchmark.py --help"""

from stridelab.cli.benchmark import main

if __name__ == "__main__":
    main()
