"""A run on disk: one folder per run, holding `run.db` (SQLite in WAL mode), `report.html` and `verdict.json`.

Rows are committed as they come, so a run that is killed can be read up to its last moment, and a run can be read while
it is written. Steps are plain columns, for anybody's own queries; probes, norms and notes are msgpack blobs of the
types in `records`. A row that cannot be read, or that points to what is not there, is left out when a run is read, and a
note of the run says so: a damaged record costs its row, never the rest.

A replay of remedies is kept beside it as `replay.json`, the runs of its trials under `replay/`.

    meta(key, data)   steps(step, at, optimizer, lr, loss, grad, weight, update_norm, ...)   rows(id, kind, step, data)
"""

from gradientflow.store.reading import read
from gradientflow.store.replays import REPLAY, TRIALS, keep_replay, read_replay
from gradientflow.store.tables import FILE
from gradientflow.store.writing import Store

__all__ = ["FILE", "REPLAY", "TRIALS", "Store", "keep_replay", "read", "read_replay"]
