"""python scripts/plan.py --help"""

from stridelab.cli.plan import main

if __name__ == "__main__":
    main()
