"""python scripts/plan.py --help"""

from stridelab.doors.plan import main

if __name__ == "__main__":
    main()
