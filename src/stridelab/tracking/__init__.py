"""Runs are kept here: a journal for each, mirrored into MLflow (which is imported where it is called)."""
