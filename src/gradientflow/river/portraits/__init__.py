"""The room of portraits: what orders a field of two parameters, for the eye: samples, points at rest, separatrices."""
