"""gradientflow: the gradient flow of a neural network, solved and seen.

gradientflow run train.py      watches an unmodified training script and says where its gradient goes wrong
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
