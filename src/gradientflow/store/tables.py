"""The database of a run: its file, its tables, and how numbers stand in them."""

from __future__ import annotations

from typing import Any

FILE = "run.db"
FORMAT = 1  # of the tables, kept as the database's user_version; 0: written before there was one
COLUMNS = (
    "step", "at", "optimizer", "lr", "loss", "grad", "weight", "update_norm", "nonfinite", "backwards", "momentum", "along",
)  # fmt: skip
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, data BLOB);
CREATE TABLE IF NOT EXISTS steps ({", ".join(COLUMNS)});
CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, kind TEXT, step INTEGER, data BLOB);
"""
_NOT_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def kept(value: Any) -> Any:
    """What is written for a value: SQLite turns NaN into NULL, so numbers that are not finite are kept as text."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return repr(value)
    return value


def meant(value: Any) -> Any:
    """The value that was kept; NULL means 'not seen'."""
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
