"""Findings for other tools: GitHub's annotations as its runner parses them, and SARIF by the rules of its version 2.1.0.

The published JSON schema of SARIF is not part of this repository. What is checked here are its demands on the properties that
are written, by hand, each with a log that breaks it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from gradientflow.records import Budget, Finding, Loss, Meta, Place, Remedy, Run, Verdict, Watch
from gradientflow.report import FORMATS, render
from gradientflow.report.causes import SHORT, short
from gradientflow.report.github import annotate
from gradientflow.report.places import relative
from gradientflow.report.sarif import sarif
from tests.report.builders import Case

ROOT = Path(__file__).resolve().parents[2]
HERE = Path("/home/ada/nets")


def finding(symptom: str = "vanishing", cause: str = "saturating-activation", **place: Any) -> Finding:
    at = (
        Place(**({"file": "net.py", "line": 3, "module": "layers.3", "op": "sigmoid"} | place))
        if place is not None
        else None
    )
    return Finding(
        symptom, cause, 0.9, at, "The gradient loses 50 % of it,\nat each: layer",
        {"decades": -7.2, "worst": "nan", "none": None, "names": ["a", "b"]},
        [Remedy("swap-activation", "Swap it, by 100 %."), Remedy("add-skip", "Skip it.")],
    )  # fmt: skip


def verdict(*findings: Finding, symptom: str | None = None) -> Verdict:
    found = symptom or (findings[0].symptom if findings else "healthy")
    return Verdict(
        "net.py", 10, Loss(2.0, 1.0), found, list(findings), Budget(body_decades=-7.2), Watch(), summary="In a word."
    )


def run_at(folder: Path = HERE, **meta: Any) -> Run:
    source = {"net.py": "import torch\n\nh = torch.sigmoid(h)\n"}
    return Run(Meta("net.py", ["net.py", "a b"], str(folder), "2026-01-01T00:00:00+00:00", "3.11", "2.6",
                    sources=source, ended="finished", exit_code=0, **meta))  # fmt: skip


# ── GitHub ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def parsed(line: str) -> tuple[str, dict[str, str], str]:
    """Read a workflow command as the runner does: split first, unescape afterwards."""
    found = re.fullmatch(r"::([a-z]+) ([^\n]*?)::([^\n]*)", line)
    assert found is not None, line
    command, properties, message = found.groups()
    values = dict(pair.split("=", 1) for pair in properties.split(","))
    whole = {
        k: v.replace("%3A", ":").replace("%2C", ",").replace("%0A", "\n").replace("%25", "%") for k, v in values.items()
    }
    return command, whole, message.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def test_an_annotation_is_read_by_the_runner_as_it_was_meant() -> None:
    text = annotate(verdict(finding(), finding("dead", "dead-units", line=7)), run_at(), HERE)
    first, second = text.splitlines()
    assert first.startswith(
        "::error file=net.py,line=3,title=vanishing%3A saturating-activation::The gradient loses 50 %25 of"
    )
    command, properties, message = parsed(first)
    assert command == "error"
    assert properties == {"file": "net.py", "line": "3", "title": "vanishing: saturating-activation"}
    assert message.startswith("The gradient loses 50 % of it,\nat each: layer [layers.3, sigmoid] (confidence 90 %)\n")
    assert message.count("What would help: ") == 2 and "100 %." in message
    assert parsed(second)[:2] == ("warning", {"file": "net.py", "line": "7", "title": "dead: dead-units"})


def test_nothing_in_a_name_breaks_out_of_a_command() -> None:
    hostile = finding(file="a,line=9::,b%0A.py", module="m\n::error::x", op="o\r\n::set-output name=x::y")
    hostile.summary = "one\n::error::two\r::add-mask::three\u2028four"
    text = annotate(verdict(hostile), run_at(), HERE)
    (line,) = text.splitlines()
    command, properties, message = parsed(line)
    assert command == "error" and properties["file"] == "a,line=9::,b%0A.py" and properties["line"] == "3"
    assert message.startswith("one\n::error::two")
    assert len(re.findall(r"(?m)^::", text)) == 1
    assert len(re.findall(r"(?m)^::", f"::error file=x::{hostile.summary}")) == 2  # without escaping it does break out


def test_what_has_no_file_has_no_file() -> None:
    cell = finding(file="In[3]", line=4)
    command, properties, message = parsed(annotate(verdict(cell), None, HERE).strip())
    assert command == "error" and "file" not in properties and "In[3]:4" in message
    nowhere = finding()
    nowhere.place = None
    assert parsed(annotate(verdict(nowhere), run_at(), HERE).strip())[1]["file"] == "net.py"  # the script itself
    assert "file" not in parsed(annotate(verdict(nowhere), None, HERE).strip())[1]


def test_healthy_is_silent_and_not_measured_is_not() -> None:
    assert annotate(verdict(), run_at(), HERE) == ""
    command, properties, message = parsed(annotate(verdict(symptom="not-measured"), run_at(), HERE).strip())
    assert (command, properties, message) == ("warning", {"title": "gradientflow: not measured"}, "In a word.")


@pytest.mark.parametrize(
    ("file", "cwd", "here", "expected"),
    [
        ("net.py", "/a/b", "/a/b", "net.py"),
        ("net.py", "/a/b", "/a", "b/net.py"),
        ("../c/net.py", "/a/b", "/a", "c/net.py"),
        ("/a/b/net.py", "/z", "/a", "b/net.py"),
        ("/usr/lib/x.py", "/a", "/a", "/usr/lib/x.py"),
        ("/ab/net.py", "/a", "/a", "/ab/net.py"),  # not below /a, though it begins so
        ("<stdin>", "/a", "/a", None),
        ("In[12]", "/a", "/a", None),
        (None, "/a", "/a", None),
    ],
)
def test_paths_are_relative_to_where_the_reader_stands(file: str, cwd: str, here: str, expected: str) -> None:
    assert relative(file, run_at(Path(cwd)).meta, Path(here)) == expected


# ── SARIF ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def check(log: dict[str, Any]) -> None:
    """Hold a log to what SARIF 2.1.0 demands of the properties that gradientflow writes (§ of the standard)."""
    assert set(log) == {"$schema", "version", "runs"} and log["version"] == "2.1.0"  # §3.13
    assert urlparse(log["$schema"]).path.endswith("/sarif-schema-2.1.0.json")
    assert isinstance(log["runs"], list)
    for run in log["runs"]:
        driver = run["tool"]["driver"]  # §3.18.2, §3.19
        assert isinstance(driver["name"], str) and driver["name"]
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", driver["semanticVersion"])
        ids = [rule["id"] for rule in driver["rules"]]
        assert len(ids) == len(set(ids))  # §3.49.3
        for rule in driver["rules"]:
            for text in ("shortDescription", "fullDescription", "help"):
                assert isinstance(rule[text]["text"], str) and rule[text]["text"]  # §3.12.3
            assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")  # §3.50.3
            assert len(rule["properties"]["tags"]) == len(set(rule["properties"]["tags"]))  # §3.8.2
        for base in run["originalUriBaseIds"].values():
            assert base["uri"].endswith("/") and urlparse(base["uri"]).scheme == "file"  # §3.14.14
        assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
        for invocation in run["invocations"]:
            assert isinstance(invocation["executionSuccessful"], bool)  # §3.20.14: required
            assert isinstance(invocation.get("exitCode", 0), int)
        assert isinstance(run["results"], list)  # §3.14.23: there even when empty, or nothing was looked for
        for result in run["results"]:
            assert ids[result["ruleIndex"]] == result["ruleId"]  # §3.27.6
            assert isinstance(result["message"]["text"], str) and result["message"]["text"]  # §3.27.11: required
            assert result["level"] in ("none", "note", "warning", "error")
            assert result["kind"] == "fail"  # §3.27.10: a level other than none only with it
            assert 0.0 <= result["rank"] <= 100.0  # §3.27.25
            assert all(isinstance(v, str) for v in result["partialFingerprints"].values())
            for location in result.get("locations", []):
                physical = location.get("physicalLocation")
                if physical is not None:
                    artifact = physical["artifactLocation"]
                    uri = artifact["uri"]
                    assert "\\" not in uri and " " not in uri
                    if urlparse(uri).scheme:
                        assert "uriBaseId" not in artifact  # §3.4.4
                    else:
                        assert artifact["uriBaseId"] in run["originalUriBaseIds"]
                        assert not uri.startswith("/") and ".." not in uri.split("/")  # §3.4.3
                    assert physical["region"]["startLine"] >= 1  # §3.30.5


def logged(*findings: Finding, run: Run | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sarif(verdict(*findings, **more), run or run_at(), "0.1.0", HERE))
    return found


def sample() -> dict[str, Any]:
    outside = finding("dead", "dead-units", file="/opt/a lib/x.py", line=None)
    return logged(finding(), outside, finding("crawling", "dead-units", file="sub/ä.py"))


def test_a_log_is_what_the_standard_demands() -> None:
    log = sample()
    check(log)
    (run,) = log["runs"]
    assert [r["id"] for r in run["tool"]["driver"]["rules"]] == ["saturating-activation", "dead-units"]
    assert [r["level"] for r in run["results"]] == ["error", "warning", "warning"]
    first, second, third = (r["locations"][0] for r in run["results"])
    assert first["physicalLocation"]["artifactLocation"] == {"uri": "net.py", "uriBaseId": "SRCROOT"}
    assert first["physicalLocation"]["region"] == {"startLine": 3, "snippet": {"text": "h = torch.sigmoid(h)"}}
    assert [x["name"] for x in first["logicalLocations"]] == ["layers.3", "sigmoid"]
    assert second["physicalLocation"]["artifactLocation"] == {"uri": "file:///opt/a%20lib/x.py"}
    assert unquote(third["physicalLocation"]["artifactLocation"]["uri"]) == "sub/ä.py"
    assert run["invocations"][0]["commandLine"] == "gradientflow run net.py 'a b'"
    result = run["results"][0]
    assert result["properties"]["evidence"] == {"decades": -7.2, "worst": "nan", "names": ["a", "b"]}
    assert result["rank"] == 90.0 and "50 %" in result["message"]["text"]


def test_all_cases_give_logs_that_hold(case: Case) -> None:
    log = json.loads(sarif(case.verdict, case.run, "0.1.0", HERE))
    check(log)
    assert len(log["runs"][0]["results"]) == len(case.verdict.findings)


@pytest.mark.parametrize("name", ["long", "hostile"])
def test_hostile_names_give_logs_that_hold(cases: dict[str, Callable[[], Case]], name: str) -> None:
    made = cases[name]()
    check(json.loads(sarif(made.verdict, made.run, "0.1.0", HERE)))
    assert all(parsed(line) for line in annotate(made.verdict, made.run, HERE).splitlines())


def _drop(path: str) -> Callable[[dict[str, Any]], None]:
    def harm(log: dict[str, Any]) -> None:
        *way, last = path.split(".")
        at: Any = log
        for key in way:
            at = at[int(key)] if key.isdigit() else at[key]
        del at[last]

    return harm


def _put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def harm(log: dict[str, Any]) -> None:
        *way, last = path.split(".")
        at: Any = log
        for key in way:
            at = at[int(key)] if key.isdigit() else at[key]
        at[last] = value

    return harm


@pytest.mark.parametrize(
    "harm",
    [
        _put("version", "2.1"),
        _drop("$schema"),
        _put("more", 1),
        _drop("runs.0.tool.driver.name"),
        _drop("runs.0.results"),
        _drop("runs.0.results.0.message"),
        _drop("runs.0.invocations.0.executionSuccessful"),
        _put("runs.0.results.0.ruleIndex", 1),
        _put("runs.0.results.0.ruleId", "other"),
        _put("runs.0.results.0.level", "fatal"),
        _put("runs.0.results.0.rank", 101.0),
        _put("runs.0.results.0.locations.0.physicalLocation.region.startLine", 0),
        _put("runs.0.results.0.locations.0.physicalLocation.artifactLocation.uri", "/net.py"),
        _put("runs.0.results.0.locations.0.physicalLocation.artifactLocation.uriBaseId", "ELSEWHERE"),
        _put("runs.0.results.1.locations.0.physicalLocation.artifactLocation.uriBaseId", "SRCROOT"),
        _put("runs.0.originalUriBaseIds.SRCROOT.uri", "file:///home"),
        _put("runs.0.tool.driver.rules.1.id", "saturating-activation"),
        _put("runs.0.tool.driver.rules.0.help", {"text": ""}),
    ],
)
def test_the_check_sees_what_the_standard_forbids(harm: Callable[[dict[str, Any]], None]) -> None:
    log = copy.deepcopy(sample())
    harm(log)
    with pytest.raises((AssertionError, KeyError)):
        check(log)


def test_a_finding_is_the_same_after_lines_have_moved() -> None:
    def print_of(f: Finding) -> str:
        return str(logged(f)["runs"][0]["results"][0]["partialFingerprints"]["gradientflow/v1"])

    moved = finding(line=300)
    moved.summary, moved.confidence, moved.evidence = "Other words.", 0.6, {}
    assert print_of(moved) == print_of(finding())
    assert (
        len(
            {
                print_of(finding()),
                print_of(finding(op="tanh")),
                print_of(finding(file="b.py")),
                print_of(finding("dead")),
            }
        )
        == 4
    )


def test_a_run_that_failed_or_showed_nothing_says_so() -> None:
    (healthy,) = logged()["runs"]
    assert healthy["results"] == [] and healthy["invocations"][0]["executionSuccessful"] is True
    failed = run_at()
    failed.meta.ended, failed.meta.exit_code = "exception", 1
    (run,) = logged(run=failed)["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False and run["invocations"][0]["exitCode"] == 1
    (run,) = logged(symptom="not-measured")["runs"]
    assert run["invocations"][0]["toolExecutionNotifications"][0]["level"] == "warning"


# ── words, and the door ──────────────────────────────────────────────────────────────────────────────────────────────


def test_every_known_cause_has_its_words_and_a_new_one_gets_some() -> None:
    page = (ROOT / "docs" / "what-does-the-verdict-mean.md").read_text(encoding="utf-8")
    told = page[page.index("## Causes") : page.index("## Remedies")]
    assert [cause for cause in SHORT if cause not in told] == []
    assert short("a-new-cause") == "A new cause"


def test_one_door_for_all_formats() -> None:
    given = verdict(finding())
    assert json.loads(render("json", given, None, "0.1.0"))["symptom"] == "vanishing"
    assert render("github", given, None, "0.1.0", HERE).startswith("::error")
    assert json.loads(render("sarif", given, None, "0.1.0", HERE))["version"] == "2.1.0"
    assert set(FORMATS) == {"text", "brief", "json", "github", "sarif"}
    assert render("brief", given, None, "0.1.0").startswith("form: gradientflow.brief/1\n")
    with pytest.raises(ValueError, match="expected one of brief, json, github, sarif"):
        render("xml", given, None, "0.1.0")
