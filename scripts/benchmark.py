"""python scripts/benchmark.py --help"""

from benchmarks.__main__ import main

if __name__ == "__main__":
    main()
