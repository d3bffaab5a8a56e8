"""The probe: what one forward and one backward pass did, operation by operation."""
