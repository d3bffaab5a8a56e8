"""The labelled scripts of the repository: their labels fit the scripts, and use the words of the verdict."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from benchmarks import cases
from benchmarks.mutants.faults import MUTANTS
from benchmarks.twins.pairs import PAIRS
from gradientflow.records import REMEDIES, SYMPTOMS
from gradientflow.report.causes import SHORT

LABELS: list[dict[str, Any]] = json.loads((cases.CASES / "labels.json").read_text(encoding="utf-8"))
OF_A_MACHINE = re.compile(r"/(?:home|Users|root|tmp|mnt|opt)/|[A-Z]:\\\\")


def faults(label: dict[str, Any]) -> list[str]:
    """Say in words what is wrong with a label."""
    file = cases.CASES / label["file"]
    if not file.is_file():
        return [f"no such script: {label['file']}"]
    length = len(file.read_text(encoding="utf-8").splitlines())
    found = [f"lines {span}" for span in label["lines"] if not 1 <= span[0] <= span[1] <= length]
    for field, known in (("symptoms", SYMPTOMS), ("causes", tuple(SHORT)), ("remedies", REMEDIES)):
        found += [f"{field}: {word}" for word in label[field] if word not in known]
    if label["healthy"] != (label["symptoms"] == ["healthy"]) or label["healthy"] != (not label["causes"]):
        found.append("healthy, and yet not")
    if OF_A_MACHINE.search(json.dumps(label)):
        found.append("a path of some machine")
    return found


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label["file"])
def test_a_label_fits_its_script(label):
    assert faults(label) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"file": "case_999.py"}, "no such script"),
        ({"lines": [[3, 2]]}, "lines"),
        ({"lines": [[1, 9999]]}, "lines"),
        ({"symptoms": ["sick"]}, "symptoms: sick"),
        ({"causes": ["bad-luck"]}, "causes: bad-luck"),
        ({"remedies": ["pray"]}, "remedies: pray"),
        ({"healthy": True}, "healthy, and yet not"),
        ({"story": "/home/me/train.py"}, "a path"),
    ],
)
def test_a_label_that_does_not_fit_is_told(change, told):
    sick = next(label for label in LABELS if not label["healthy"])
    assert any(told in fault for fault in faults({**sick, **change}))


def test_every_script_has_a_label_and_most_causes_a_script():
    assert sorted(label["file"] for label in LABELS) == sorted(f.name for f in cases.CASES.glob("*.py"))
    labelled = {cause for label in LABELS for cause in label["causes"]}
    labelled |= {cause for one in (*PAIRS, *MUTANTS) for cause in one.causes[:1]}
    kinds = (cases.CASES.parents[1] / "tests" / "depth" / "kinds" / "scripts").glob("bad_*.py")
    labelled |= {cause for f in kinds for cause in re.findall(r"# CAUSE (\S+)", f.read_text(encoding="utf-8"))}
    assert len(labelled & SHORT.keys()) >= len(SHORT) - 2
    assert sum(label["healthy"] for label in LABELS) >= 15  # false alarms need scripts that are well


def test_no_script_names_a_path_of_some_machine():
    assert [f.name for f in cases.CASES.glob("*.py") if OF_A_MACHINE.search(f.read_text(encoding="utf-8"))] == []


def counts(**right: int) -> dict[str, Any]:
    return {
        name: {"right": n, "of": 10}
        for name, n in {"symptom": 9, "cause": 9, "line": 9, "false_alarms": 0, **right}.items()
    }


@pytest.mark.parametrize(
    ("right", "short"),
    [({}, 0), ({"symptom": 8}, 1), ({"cause": 8, "line": 0}, 2), ({"false_alarms": 1}, 0), ({"false_alarms": 2}, 1)],
)
def test_stated_figures_are_reached_or_told(right, short):
    stated = {"symptom": 0.9, "cause": 0.9, "line": 0.9, "false_alarms": 1}
    assert len(cases.missed(counts(**right), stated)) == short


def test_the_figures_of_the_set_are_read_and_another_set_has_none(tmp_path):
    assert set(cases.figures(cases.CASES)) == {"symptom", "cause", "line", "false_alarms"}
    assert cases.figures(tmp_path) == {}
