"""What all interventions share: their protocol, the lines they act at, the mode that they act from."""
