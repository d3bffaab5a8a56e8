"""The scoring of benchmarks/cases.py, with hand-made verdicts and labels: what is a hit must also be able to miss."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import cases

FAULTY = {
    "file": "case_008.py",
    "healthy": False,
    "symptoms": ["vanishing", "crawling"],
    "causes": ["saturating-activation", "depth-without-skip"],
    "lines": [[30, 30], [20, 21]],
}
HEALTHY = {"file": "case_001.py", "healthy": True, "symptoms": ["healthy"], "causes": [], "lines": []}


def verdict(symptom="vanishing", cause="saturating-activation", line=30, file="case_008.py", errors=()):
    place = None if line is None else {"file": file, "line": line, "module": None, "op": None}
    findings = [] if cause is None else [{"symptom": symptom, "cause": cause, "place": place}]
    watch = {"probed_steps": 1, "overhead": 0.04, "errors": list(errors)}
    return {"symptom": symptom, "findings": findings, "watch": watch, "steps": 400}


def healthy_verdict():
    return verdict(symptom="healthy", cause=None)


def test_a_right_verdict_is_right_in_all_three():
    result = cases.score(FAULTY, verdict(), 0)
    assert (result.right_symptom, result.right_cause, result.right_line, result.crash) == (True, True, True, None)
    assert result.false_alarm is None


@pytest.mark.parametrize(
    ("line", "right"),
    [(30, True), (32, True), (28, True), (33, False), (27, False), (18, True), (23, True), (17, False), (24, False)],
)
def test_two_lines_off_is_a_hit_and_three_is_a_miss(line, right):
    assert cases.score(FAULTY, verdict(line=line), 0).right_line is right


def test_the_right_line_in_another_file_is_a_miss():
    assert cases.score(FAULTY, verdict(file="/usr/lib/python3/torch/nn/functional.py"), 0).right_line is False


def test_a_path_to_the_script_is_the_script():
    assert cases.score(FAULTY, verdict(file="/somewhere/else/case_008.py"), 0).right_line is True


def test_a_verdict_without_a_place_misses_the_line():
    assert cases.score(FAULTY, verdict(line=None), 0).right_line is False


def test_a_label_without_lines_does_not_count_lines():
    assert cases.score({**FAULTY, "lines": []}, verdict(), 0).right_line is None


def test_second_best_symptom_and_cause_are_accepted_and_others_not():
    accepted = cases.score(FAULTY, verdict(symptom="crawling", cause="depth-without-skip"), 0)
    assert (accepted.right_symptom, accepted.right_cause) == (True, True)
    wrong = cases.score(FAULTY, verdict(symptom="exploding", cause="init-too-large"), 0)
    assert (wrong.right_symptom, wrong.right_cause) == (False, False)


def test_only_the_first_finding_counts():
    two = verdict(symptom="noisy", cause="small-batch-noise", line=3)
    two["findings"] += verdict()["findings"]
    result = cases.score(FAULTY, two, 0)
    assert (result.right_symptom, result.right_cause, result.right_line) == (False, False, False)


def test_a_faulty_script_called_healthy_is_wrong_but_no_crash():
    result = cases.score(FAULTY, healthy_verdict(), 0)
    assert (result.right_symptom, result.right_cause, result.right_line) == (False, False, False)
    assert result.crash is None


def test_false_alarm_only_on_a_healthy_script_called_sick():
    assert cases.score(HEALTHY, healthy_verdict(), 0).false_alarm is False
    assert cases.score(HEALTHY, verdict(), 0).false_alarm is True


@pytest.mark.parametrize(
    ("found", "code", "plain", "word"),
    [
        (None, 0, 0, "no verdict"),
        (verdict(errors=["KeyError: 3"]), 0, 0, "KeyError"),
        (verdict(), 1, 0, "exit code 1"),
        (verdict(), 0, 1, "unwatched 1"),
        (verdict(), 1, None, "exit code 1"),
    ],
)
def test_crashes(found, code, plain, word):
    assert word in cases.score(FAULTY, found, code, plain).crash


def test_a_script_that_fails_by_itself_is_no_crash_of_the_watcher():
    assert cases.score(FAULTY, verdict(), 1, 1).crash is None


def test_a_crash_on_a_healthy_script_is_not_also_a_false_alarm():
    result = cases.score(HEALTHY, None, 1, 0)
    assert result.crash
    assert result.false_alarm is False


def test_rates_are_written_with_their_counts():
    assert cases.rate({"right": 37, "of": 39}) == "37/39 (94.9 %)"
    assert cases.rate({"right": 0, "of": 0}) == "–"


def test_totals_count_only_what_applies():
    results = [
        cases.score(FAULTY, verdict(), 0),
        cases.score({**FAULTY, "lines": []}, verdict(cause="recurrence"), 0),
        cases.score(HEALTHY, verdict(), 0),
        cases.score(HEALTHY, None, 1),
    ]
    total = cases.summarise(results)
    assert total["symptom"] == {"right": 2, "of": 2}
    assert total["cause"] == {"right": 1, "of": 2}
    assert total["line"] == {"right": 1, "of": 1}
    assert total["false_alarms"] == {"right": 1, "of": 2}
    assert total["crashes"] == 1
    assert list(cases.by_cause(results)) == ["saturating-activation", "healthy"]


# ── the whole command, with a stand-in for gradientflow ──────────────────────────────────────────────────────────────

STAND_IN = """
import json, runpy, sys
assert sys.argv[1:4] == ["run", "--quiet", "--json"] and sys.argv[5] == "--out"
script = sys.argv[7]
assert not __import__("os").listdir(".")
if "no_verdict" not in script:
    healthy = "fine" in script
    finding = {"symptom": "vanishing", "cause": "recurrence", "place": {"file": script, "line": 3}}
    json.dump(
        {"symptom": "healthy" if healthy else "vanishing", "findings": [] if healthy else [finding],
         "watch": {"errors": [], "overhead": 0.05, "probed_steps": 1}, "steps": 10},
        open(sys.argv[4], "w"),
    )
runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture
def folder(tmp_path):
    def label(name, healthy, **more):
        return {"file": name, "healthy": healthy, "symptoms": [], "causes": [], "lines": [], **more}

    sick = {"symptoms": ["vanishing"], "causes": ["recurrence"], "lines": [[3, 4]]}
    labels = [
        label("fine.py", True),
        label("sick.py", False, **sick),
        label("exits.py", False, **sick),
        label("no_verdict.py", False, **sick),
        label("endless.py", False, **sick),
    ]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    for each in labels:
        (tmp_path / each["file"]).write_text("print('training')\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(5)\n")
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(60)\n")
    return tmp_path


@pytest.fixture
def stand_in(tmp_path_factory) -> list[str]:
    file: Path = tmp_path_factory.mktemp("stand-in") / "stand_in.py"
    file.write_text(STAND_IN)
    return [sys.executable, str(file)]


def test_the_command_prints_a_table_and_writes_json(folder, stand_in, capsys):
    out = folder / "out.json"
    code = cases.main(["--cases", str(folder), "--json", str(out), "--only", "fine,sick.py,exits"], watch=stand_in)
    said = capsys.readouterr()
    assert code == 0
    assert "recurrence  2        2/2 (100.0 %)  2/2 (100.0 %)  2/2 (100.0 %)" in said.out
    assert "[3/3]" in said.err
    content = json.loads(out.read_text())
    assert content["total"]["false_alarms"] == {"right": 0, "of": 1}
    assert [script["file"] for script in content["scripts"]] == ["exits.py", "fine.py", "sick.py"]
    assert all(script["seconds_plain"] > 0 for script in content["scripts"])


def test_a_stated_figure_that_is_not_reached_is_told_and_the_exit_code_says_so(folder, stand_in, capsys):
    labels = json.loads((folder / "labels.json").read_text())
    (folder / "labels.json").write_text(json.dumps([each for each in labels if each["file"] in ("fine.py", "sick.py")]))
    for least, code in ((1.0, 0), (1.1, 1)):
        (folder / "stated.json").write_text(json.dumps({"cause": least, "false_alarms": 0}))
        assert cases.main(["--cases", str(folder), "--no-plain"], watch=stand_in) == code
        assert ("not reached: cause 1/1" in capsys.readouterr().out) is (code == 1)
        assert (
            cases.main(["--cases", str(folder), "--no-plain", "--only", "sick"], watch=stand_in) == 0
        )  # not of a part


def test_a_missing_verdict_is_a_crash_and_the_exit_code_says_so(folder, stand_in, capsys):
    assert cases.main(["--cases", str(folder), "--only", "no_verdict", "--no-plain"], watch=stand_in) == 1
    assert "crash: no_verdict.py: no verdict" in capsys.readouterr().out


def test_without_a_plain_run_another_exit_code_than_0_is_a_crash(folder, stand_in, capsys):
    assert cases.main(["--cases", str(folder), "--only", "exits", "--no-plain"], watch=stand_in) == 1
    assert "exit code 5" in capsys.readouterr().out


def test_a_script_that_does_not_end_is_stopped_and_counted(folder, stand_in, capsys):
    arguments = ["--cases", str(folder), "--only", "endless", "--no-plain", "--timeout", "1"]
    assert cases.main(arguments, watch=stand_in) == 1
    assert "not finished after 1 s" in capsys.readouterr().out


def test_unknown_names_and_folders_are_told(folder, tmp_path):
    with pytest.raises(SystemExit, match="case_999"):
        cases.main(["--cases", str(folder), "--only", "case_999"])
    with pytest.raises(SystemExit):
        cases.main(["--cases", str(tmp_path / "nowhere")])
