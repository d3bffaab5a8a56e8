"""Faults of the training loop, put into healthy scripts."""
