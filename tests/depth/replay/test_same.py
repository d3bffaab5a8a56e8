"""Whether a script may be run again: only as it was watched, and only where the record can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradientflow.depth.replay.same import same_script
from gradientflow.depth.watch.recorder import SOURCE_LIMIT
from gradientflow.errors import UsageError
from gradientflow.records import Meta, Note, Run

TEXT = "import torch\n"


def _run(folder: Path, sources: dict[str, str]) -> Run:
    return Run(Meta("train.py", ["train.py"], str(folder), "", "", "", sources=sources))


def test_a_script_as_it_was_is_run_again(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TEXT)
    same_script(_run(tmp_path, {"train.py": TEXT}))


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ({"train.py": "import math\n"}, r"^train\.py has changed"),
        ({"train.py": TEXT, "model.py": TEXT}, r"cannot read .*model\.py"),
        ({"train.py": TEXT, "a\0b.py": TEXT}, r"cannot read .*b\.py"),
        ({"train.py": TEXT, ".": TEXT}, "cannot read"),
        ({}, r"holds no text of train\.py"),
    ],
)
def test_what_has_changed_or_cannot_be_told_is_refused(tmp_path: Path, sources: dict[str, str], told: str) -> None:
    (tmp_path / "train.py").write_text(TEXT)
    with pytest.raises(UsageError, match=told):
        same_script(_run(tmp_path, sources))


def test_a_damaged_record_is_refused_whatever_is_left_of_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TEXT)
    run = _run(tmp_path, {"train.py": TEXT})
    run.notes = [Note("advice", "x")]
    same_script(run)
    run.notes = [Note("record", "run.db is damaged: x")]
    with pytest.raises(UsageError, match=r"is damaged.*Watch it anew: gradientflow run --replay train\.py"):
        same_script(run)


@pytest.mark.parametrize(("more", "kept"), [(0, True), (1, False)])
def test_of_a_very_long_script_no_text_is_kept_so_none_is_missed(tmp_path: Path, more: int, kept: bool) -> None:
    (tmp_path / "train.py").write_text("#" * (SOURCE_LIMIT + more))
    if not kept:
        same_script(_run(tmp_path, {}))
        return
    with pytest.raises(UsageError, match="holds no text"):
        same_script(_run(tmp_path, {}))
