"""Remedies, tried: a remedy as an intervention on the running script, and trials of it beside a baseline."""
