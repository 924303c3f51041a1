"""python scripts/compare.py --help"""

from stridelab.cli.compare import main

if __name__ == "__main__":
    main()
