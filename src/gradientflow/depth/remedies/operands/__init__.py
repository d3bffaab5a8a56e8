"""Operations at their singular points: the operand kept away."""
