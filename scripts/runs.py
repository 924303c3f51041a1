"""python scripts/runs.py --help"""

from stridelab.doors.runs import main

if __name__ == "__main__":
    main()
