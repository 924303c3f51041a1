"""python scripts/benchmark.py --help"""

from stridelab.doors.benchmark import main

if __name__ == "__main__":
    main()
