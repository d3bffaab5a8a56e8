"""The step: its size, the gradient that it gets, the batch behind it, what regularises it."""
