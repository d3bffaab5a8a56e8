"""Paths: the one loop, what is kept, where it ends, and how far it can be trusted."""
