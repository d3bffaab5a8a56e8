"""First values of the weights: their size, their symmetry, recurrences and gates."""
