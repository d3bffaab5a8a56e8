"""Recurrent operations: their names, and how many blocks of gates their weights hold."""

from __future__ import annotations

# cell → blocks of rows in its weights: a plain state has one, a GRU three, an LSTM four
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}

RECURRENT = frozenset(name for cell in GATES for name in (cell, f"{cell}_cell"))  # over a sequence, or of one step
GATED = frozenset(name for cell, blocks in GATES.items() if blocks > 1 for name in (cell, f"{cell}_cell"))
