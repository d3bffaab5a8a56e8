"""A run on disk: one folder per run, holding `run.db` (SQLite), `report.html` and `verdict.json`.

Rows are committed as they come, so a run that is killed can be read up to its last moment, and a run can be read while
it is written. Steps are plain columns, for anybody's own queries; probes, norms and notes are msgpack blobs of the
types in `records`.

A job of several processes is a folder of such folders, `rank-0` and so on (`ranks.py`).

A replay of remedies is kept beside it as `replay.json`, the runs of its trials under `replay/`.

    meta(key, data)   steps(step, at, optimizer, lr, loss, grad, weight, update_norm, ...)   rows(id, kind, step, data)
"""

from gradientflow.store.following import Following
from gradientflow.store.fresh import fresh_folder
from gradientflow.store.layout import FILE, REPLAY, TRIALS
from gradientflow.store.ranks import Place, beside, of_job, place, rank_folder
from gradientflow.store.reading import read
from gradientflow.store.replays import keep_replay, read_replay
from gradientflow.store.writing import AT_THE_END, MOST_WAITING, Store

__all__ = [
    "AT_THE_END",
    "FILE",
    "MOST_WAITING",
    "REPLAY",
    "TRIALS",
    "Following",
    "Place",
    "Store",
    "beside",
    "fresh_folder",
    "keep_replay",
    "of_job",
    "place",
    "rank_folder",
    "read",
    "read_replay",
]
