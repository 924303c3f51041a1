"""The main door: python train.py [-m] key=value ...   (python train.py --help)"""

from stridelab.cli.train import main

if __name__ == "__main__":
    main()
