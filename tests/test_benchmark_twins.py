"""Source twins: both scripts of a pair are the same to the byte, and something else differs."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.source_twins import lay_out
from benchmarks.twins.pairs import PAIRS


def around(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name != "train.py"}


def test_twins_differ_in_what_lies_around_the_script_and_in_nothing_else(tmp_path: Path) -> None:
    labels = lay_out(tmp_path / "pairs")
    assert len(labels) == 2 * len(PAIRS) >= 30
    env = {label["file"]: label["env"] for label in labels}
    for pair in PAIRS:
        sound, faulty = (tmp_path / "pairs" / f"{pair.name}-{kind}" for kind in ("sound", "faulty"))
        assert (sound / "train.py").read_bytes() == (faulty / "train.py").read_bytes()
        told = [env[f"{pair.name}-{kind}/train.py"] for kind in ("sound", "faulty")]
        assert around(sound) != around(faulty) or told[0] != told[1], pair.name


def test_a_place_that_is_not_in_the_script_is_refused(tmp_path: Path) -> None:
    wrong = dataclasses.replace(PAIRS[0], at=("no such line",))
    with pytest.raises(ValueError, match="no such line"):
        lay_out(tmp_path / "pairs", [wrong])


@pytest.mark.parametrize("name", ["source_twins", "loop_mutants"])
def test_it_runs_as_the_plain_script_that_its_head_names(name: str, tmp_path: Path) -> None:
    file = Path(__file__).resolve().parents[1] / "benchmarks" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(file), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "usage:" in done.stdout
