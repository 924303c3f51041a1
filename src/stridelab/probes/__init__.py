"""Measures on a trained network, logged into its run afterwards."""
