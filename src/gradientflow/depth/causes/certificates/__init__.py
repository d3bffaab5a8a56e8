"""What a run has proven: one certificate a file, each for one link between the flow and a training run. Dry."""
