"""python scripts/reproduce.py --help"""

from stridelab.doors.reproduce import main

if __name__ == "__main__":
    main()
