"""python scripts/compare.py --help"""

from stridelab.doors.compare import main

if __name__ == "__main__":
    main()
