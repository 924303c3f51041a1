"""python scripts/get_data.py --help"""

from stridelab.cli.data import main

if __name__ == "__main__":
    main()
