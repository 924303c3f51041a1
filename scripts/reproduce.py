"""python scripts/reproduce.py --help"""

from stridelab.cli.reproduce import main

if __name__ == "__main__":
    main()
