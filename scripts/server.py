"""python scripts/server.py --help"""

from stridelab.cli.server import main

if __name__ == "__main__":
    main()
