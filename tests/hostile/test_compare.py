"""The comparison itself, on runs made by hand: it tells every difference, and only those."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.hostile.__main__ import Result, chosen, table
from tests.hostile.case import HEAD, Case, Seen, Shelf
from tests.hostile.checks import at_least, every, judged, less_than, not_claimed, overhead_below, recorded, says
from tests.hostile.compare import differences, files_under, shell_code, without_calls
from tests.hostile.scripts import CASES

CASE = Case("x", "endings", "")
PLAIN = Seen(0, "loss 1.0\n", "", {"a.txt": "1"})
VERDICT = {"symptom": "healthy", "steps": 30, "summary": "fine", "watch": {"errors": [], "overhead": 0.1}}


def test_equal_runs_do_not_differ():
    assert differences(CASE, PLAIN, replace(PLAIN, seconds=9.0, verdict=VERDICT)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"code": 1}, "exit code 1, plain 0"),
        ({"stdout": "loss 1.1\n"}, "+loss 1.1"),
        ({"stdout": "loss 1.0"}, "only the ends of lines differ"),
        ({"stderr": "Warning\n"}, "+Warning"),
        ({"files": {"a.txt": "2"}}, "a.txt (changed)"),
        ({"files": {}}, "a.txt (missing)"),
        ({"files": {"a.txt": "1", "b": "/"}}, "b (new)"),
        ({"code": None}, "not finished"),
    ],
)
def test_each_difference_is_told(change, told):
    found = differences(CASE, PLAIN, replace(PLAIN, **change))
    assert len(found) == 1 and told in found[0]


def test_a_plain_run_that_did_not_end_compares_nothing():
    assert "the plain run was not finished" in differences(CASE, replace(PLAIN, code=None), PLAIN)[0]


def test_what_is_skipped_is_not_compared_and_the_rest_is():
    other = replace(PLAIN, stdout="x", code=2)
    assert differences(replace(CASE, skips=frozenset({"stdout"})), PLAIN, other) == ["exit code 2, plain 0"]


def test_what_is_hidden_is_not_compared_and_the_rest_of_the_line_is():
    case = replace(CASE, hides=r"\d+ s")
    one, two = replace(PLAIN, stdout="took 3 s, loss 1"), replace(PLAIN, stdout="took 4 s, loss 1")
    assert differences(case, one, two) == []
    assert differences(case, one, replace(two, stdout="took 4 s, loss 2"))


def test_addresses_are_not_compared_and_other_numbers_are():
    one, two = (
        replace(PLAIN, stderr=f"ignored in <function f at {at}>") for at in ("0x7f4cb3a26520", "0x7fa79f4d0b80")
    )
    assert differences(CASE, one, two) == []
    assert differences(CASE, replace(PLAIN, stdout="0x10"), replace(PLAIN, stdout="0x11"))


def test_what_must_hold_is_asked():
    case = replace(CASE, holds=lambda plain, watched: None if watched.verdict else "no verdict")
    assert differences(case, PLAIN, PLAIN) == ["does not hold: no verdict"]
    assert differences(case, PLAIN, replace(PLAIN, verdict=VERDICT)) == []


def test_a_death_by_signal_is_told_as_a_shell_tells_it():
    assert [shell_code(c) for c in (0, 3, -2, -15, None)] == [0, 3, 130, 143, None]


def test_frames_between_a_module_and_its_forward_are_not_compared():
    call = '{0}File "/env/torch/nn/modules/module.py", line 1884, in {1}\n{0}  return inner()\n{0}         ^^^^\n'
    mine = '{0}File "/home/me/script.py", line 3, in inner\n{0}  return f()\n'
    for prefix in ("  ", "    |   "):
        both = call.format(prefix, "_call_impl") + mine.format(prefix) + call.format(prefix, "inner") + "ValueError\n"
        assert without_calls(both) == mine.format(prefix) + "ValueError\n"
    ours = '  File "/src/gradientflow/depth/probe/trace.py", line 159, in __torch_function__\n    out = func()\n'
    assert without_calls(ours) == ours


def test_files_are_told_by_name_and_content(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a").write_text("1")
    (tmp_path / "m.pyc").write_bytes(b"1")
    before = files_under(tmp_path)
    (tmp_path / "deep/a").write_text("2")
    (tmp_path / "m.pyc").write_bytes(b"2")
    after = files_under(tmp_path)
    assert set(before) == {"deep", "deep/a", "m.pyc"}
    assert [n for n in before if before[n] != after[n]] == ["deep/a"]


def _watched(**verdict: object) -> Seen:
    return replace(PLAIN, verdict={**VERDICT, **verdict})


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (judged(), _watched(), PLAIN),
        (judged(), _watched(), _watched(watch={"errors": ["KeyError: 1"], "overhead": 0.0})),
        (judged("healthy"), _watched(), _watched(symptom="not-measured")),
        (judged(steps=30), _watched(), _watched(steps=0)),
        (recorded(30), _watched(), _watched(steps=29)),
        (not_claimed("never took"), _watched(), _watched(summary="it never took an optimizer step")),
        (overhead_below(0.2), _watched(), _watched(watch={"errors": [], "overhead": 0.2})),
        (says("loss 1.0"), PLAIN, replace(PLAIN, stdout="")),
        (every(says("loss"), judged()), _watched(), PLAIN),
        (less_than("stdout", r"loss ([\d.]+)", times=1.5), replace(PLAIN, stdout="loss 1.5"), replace(PLAIN, stdout="loss 1.6")),
        (less_than("stdout", r"loss ([\d.]+)", plus=1.0), replace(PLAIN, stdout="loss 2.0"), replace(PLAIN, stdout="loss 2.1")),
        (at_least("stdout", r"loss ([\d.]+)", times=0.9), replace(PLAIN, stdout="loss 0.9"), replace(PLAIN, stdout="loss 0.8")),
        (at_least("stdout", r"loss ([\d.]+)", times=0.9), PLAIN, replace(PLAIN, stdout="")),
    ],
)  # fmt: skip
def test_each_check_holds_and_can_fail(check, good, bad):
    assert check(PLAIN, good) is None
    assert check(PLAIN, bad)


def test_two_scripts_of_one_name_are_refused():
    case = Shelf("endings")
    case("a", "")
    with pytest.raises(ValueError, match="two scripts are called a"):
        case("a", "")


def test_a_script_lies_as_it_is_told_to(tmp_path):
    case = Shelf("surroundings")
    case("a", "x=1\n", crlf=True, files={"pkg/__init__.py": "y"}, path="pkg/train.py", prefix="# first\n")
    case.cases["a"].lay_out(tmp_path)
    assert (tmp_path / "pkg/train.py").read_bytes().startswith(b"# first\r\n")
    assert (tmp_path / "pkg/train.py").read_bytes().endswith(HEAD[-5:].replace("\n", "\r\n").encode() + b"x=1\r\n")
    assert (tmp_path / "pkg/__init__.py").read_text() == "y"


def test_what_may_differ_has_a_reason():
    unexplained = [c.name for c in CASES.values() if (c.hides or c.skips) and not c.differs]
    assert unexplained == []


def test_scripts_are_chosen_by_name_and_kind():
    assert [c.name for c in chosen("sysexit7,dropout", None)] == ["sysexit7", "dropout"]
    assert {c.kind for c in chosen(None, "signals")} == {"signals"}
    with pytest.raises(SystemExit, match="nonsense"):
        chosen("nonsense", None)


def test_the_table_counts_what_differs():
    told = table([Result(CASE, [], [], 1.0), Result(CASE, ["exit code"], ["KeyError"], 1.0)])
    assert told.splitlines()[-1].split() == ["total", "2", "1", "1", "1"]
