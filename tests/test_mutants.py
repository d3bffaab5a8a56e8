"""The script that mutates thresholds tells a held one from one that no test holds, on a tiny package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "mutants.py"
RULE = """
from gradientflow.limits import Limit

HELD = Limit("held", 0.5, "chosen: an example")
COUNT = Limit(name="count", value=3, source="chosen: an example")
LOOSE = Limit("loose", -4.0, "chosen: an example")

def rule(x, n, y):
    return x > HELD, n >= COUNT, y < LOOSE, x > 0.25 and n != 0
"""
TEST = """
from tiny.room.rule import rule

def test_held():
    assert rule(0.51, 0, 0)[0] and not rule(0.49, 0, 0)[0]

def test_count():
    assert rule(0, 3, 0)[1] and not rule(0, 2, 0)[1]
"""
LOOSE = """
def test_loose():
    assert rule(0, 0, -4.1)[2] and not rule(0, 0, -3.9)[2]

def test_literal():
    assert rule(0.26, 1, 0)[3] and not rule(0.24, 1, 0)[3]
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    for name, text in {
        "src/tiny/__init__.py": "",
        "src/tiny/room/__init__.py": "",
        "src/tiny/room/rule.py": RULE,
        "tests/room/test_limits_rule.py": TEST,
        "tests/room/test_other.py": "def test_that_is_never_asked(): assert False\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def mutated(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, str(SCRIPT), "--src", "src", "--tests", "tests", *options]
    return subprocess.run(given, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_limit_that_no_test_holds_is_told_and_fails_the_run(tiny: Path) -> None:
    done = mutated(tiny)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 numbers, 6 mutants, 4 killed: 66.7%" in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("survived")]
    assert len(lines) == 2 and all("loose  -4.0" in line and "rule.py:6" in line for line in lines)


def test_limits_that_are_held_pass(tiny: Path) -> None:
    with (tiny / "tests/room/test_limits_rule.py").open("a", encoding="utf-8") as test:
        test.write(LOOSE)
    done = mutated(tiny, "src/tiny/room")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 mutants, 6 killed: 100.0%" in done.stdout


def test_numbers_left_in_comparisons(tiny: Path) -> None:
    done = mutated(tiny, "--literals", "src/tiny")
    assert done.returncode == 1 and "1 numbers, 2 mutants, 0 killed" in done.stdout, done.stdout + done.stderr
    assert "x > 0.25" in done.stdout
    with (tiny / "tests/room/test_limits_rule.py").open("a", encoding="utf-8") as test:
        test.write(LOOSE)
    assert mutated(tiny, "--literals", "src/tiny/room/rule.py").returncode == 0


def test_a_test_that_fails_with_nothing_changed_ends_the_run(tiny: Path) -> None:
    (tiny / "tests/room/test_limits_rule.py").write_text(TEST.replace("0.51", "0.4"), encoding="utf-8")
    done = mutated(tiny)
    assert done.returncode == 2 and "with nothing changed" in done.stdout
