"""The rows of DATASETS, by the kind of their files."""
