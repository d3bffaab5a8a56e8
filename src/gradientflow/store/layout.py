"""What lies where in a run's folder, and the tables of its database."""

from __future__ import annotations

from gradientflow.records import Note, Other, ParamNorms, Probe, Rewrite

FILE = "run.db"
REPLAY, TRIALS = "replay.json", "replay"
STEP_COLUMNS = (
    "step", "at", "optimizer", "lr", "loss", "grad", "weight", "update_norm", "nonfinite", "backwards", "momentum", "along",
)  # fmt: skip
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, data BLOB)",
    f"CREATE TABLE IF NOT EXISTS steps ({', '.join(STEP_COLUMNS)})",
    "CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, kind TEXT, step INTEGER, data BLOB)",
)
KINDS: dict[str, type[Other]] = {t.__name__: t for t in (ParamNorms, Probe, Note, Rewrite)}
