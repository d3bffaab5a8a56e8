"""What an activation does to the gradient: another function in its place, at the output too."""
