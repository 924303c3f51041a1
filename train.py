"""python train.py [-m] key=value ...   (python train.py --help); the same as `stridelab train`"""

from stridelab.cli.train import main

if __name__ == "__main__":
    main()
