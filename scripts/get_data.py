"""python scripts/get_data.py --help"""

from stridelab.cli.get_data import main

if __name__ == "__main__":
    main()
