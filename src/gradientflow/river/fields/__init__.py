"""Fields: what flows."""
