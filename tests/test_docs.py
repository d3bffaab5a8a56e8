"""The docs say what the code does: the schema is fresh, the page on verdict.json names every field, links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from gradientflow import records
from gradientflow.report.causes import SHORT
from scripts import check_docs, write_schema

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")]
IN_VERDICT = [
    getattr(records, name)
    for name in (
        "Verdict",
        "Loss",
        "Trained",
        "Finding",
        "Place",
        "Remedy",
        "Budget",
        "Share",
        "Watch",
        "Replay",
        "Trial",
        "Change",
        "Outlook",
        "Doubt",
        "Certificate",
        "StepBudget",
        "Factor",
        "Warned",
    )
]


def test_the_published_schema_is_what_records_say():
    assert write_schema.FILE.read_text(encoding="utf-8") == write_schema.text(), "run: python scripts/write_schema.py"


def test_a_change_in_the_records_makes_the_schema_stale(monkeypatch):
    wider = msgspec.defstruct("Verdict", [("new_field", int)], bases=(records.Verdict,), kw_only=True)
    monkeypatch.setattr(write_schema, "Verdict", wider)
    assert write_schema.FILE.read_text(encoding="utf-8") != write_schema.text()


def test_the_schema_covers_every_type_in_a_verdict():
    definitions = json.loads(write_schema.FILE.read_text(encoding="utf-8"))["$defs"]
    assert set(definitions) == {each.__name__ for each in IN_VERDICT}


@pytest.mark.parametrize("struct", IN_VERDICT, ids=lambda struct: struct.__name__)
def test_the_page_names_every_field(struct):
    page = (ROOT / "docs" / "what-is-in-verdict-json.md").read_text(encoding="utf-8")
    assert not [field.name for field in msgspec.structs.fields(struct) if f"`{field.name}`" not in page]


def test_the_page_on_the_verdict_names_every_symptom():
    page = (ROOT / "docs" / "what-does-the-verdict-mean.md").read_text(encoding="utf-8")
    assert not [word for word in records.SYMPTOMS if f"| {word} |" not in page]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert not [to for to in targets if "://" not in to and not (page.parent / to).exists()]


def test_the_page_on_the_verdict_names_every_cause_and_remedy():
    page = (ROOT / "docs" / "what-does-the-verdict-mean.md").read_text(encoding="utf-8")
    assert not [cause for cause in SHORT if not re.search(rf"(?m)^\| [^|]*\b{cause}\b[^|]* \|", page)]
    assert not [word for word in records.REMEDIES if not re.search(rf"(?m)(?:^|[ ,]){word}[,.]", page)]


def test_pages_are_short():
    assert not [
        page.name for page in ROOT.glob("docs/*.md") if len(page.read_text(encoding="utf-8").splitlines()) > 150
    ]


# ── the script that runs the docs' examples ──────────────────────────────────────────────────────────────────────────


def failures(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return check_docs.check_page(page, tmp_path)


def test_blocks_are_found_with_their_lines():
    page = "# a\n\n```python\nx = 1\n```\n\n- item\n\n  ```bash\n  true\n  ```\n\n```text\nno\n```\n"
    assert [(b.word, b.text, b.line) for b in check_docs.blocks(page)] == [
        ("python", "x = 1\n", 3),
        ("bash", "true\n", 9),
        ("text", "no\n", 13),
    ]


def test_examples_that_hold_pass(tmp_path):
    text = """
```bash
echo 3 > number
```
```python
assert open("number").read() == "3\\n"
```
```console
$ cat number; echo between; echo "loss  2.31"; exit 0
3
loss 2.…
$ false; echo "exit code $?"
exit code 1
```
```text
not run
```
"""
    assert failures(tmp_path, text) == []


@pytest.mark.parametrize(
    "block",
    [
        "```python\nassert 1 == 2\n```",
        "```bash\nfalse\ntrue\n```",
        "```console\n$ exit 3\n```",
        "```console\n$ echo one\ntwo\n```",
        "```console\n$ echo two; echo one\none\ntwo\n```",
        "```console\n$ echo 12.5\n1…6\n```",
        "```console\nno command\n```",
    ],
)
def test_examples_that_do_not_hold_fail(tmp_path, block):
    (failure,) = failures(tmp_path, f"text\n\n{block}\n")
    assert failure.startswith("page.md:3:")
