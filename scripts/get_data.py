"""python scripts/get_data.py --help"""

from stridelab.doors.get_data import main

if __name__ == "__main__":
    main()
