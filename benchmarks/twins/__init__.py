"""Source twins: pairs of runs of one and the same script that differ only in a data file, a seed or a setting."""
