"""Remedies: when each is tried, what it does to a running script, and how it is written into the source."""
