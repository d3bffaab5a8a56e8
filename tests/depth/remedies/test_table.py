"""The table of remedies: every word has its sentence, its plan, its act and its edit, or a reason in words why not."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.remedies.acting.base import Acting
from gradientflow.depth.remedies.acting.sites import Sites
from gradientflow.depth.remedies.install import install
from gradientflow.depth.remedies.row import Never, Row
from gradientflow.depth.remedies.table import FAMILIES, TABLE
from gradientflow.depth.remedies.write import edit, edits
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.depth.replay import candidates
from gradientflow.records import REMEDIES, Change
from tests.depth.remedies.editing import FILE, HEAD, finding, run


def gaps(row: Row) -> list[str]:
    """What a row lacks."""
    lacking = [] if REMEDIES.get(row.word, "").strip() else ["sentence"]
    for column in ("plan", "act", "edit"):
        held = getattr(row, column)
        if isinstance(held, Never):
            lacking += [] if len(held.why.split()) > 3 else [column]
        elif column == "act":
            lacking += [] if isinstance(held, str) else [column]
        elif not callable(held):
            lacking.append(column)
    return lacking + ([] if len(row.unplanned.split()) > 3 else ["unplanned"])


@pytest.mark.parametrize("word", REMEDIES)
def test_every_column_is_there_or_says_why_not(word: str) -> None:
    row = TABLE[word]
    assert row.word == word
    assert gaps(row) == []
    made = row.acting()
    if not isinstance(made, Never):
        one = made(Change(word, word), Sites())
        assert isinstance(one, Acting) and one.acted == 0 and one.problem is None


def test_a_gap_is_seen() -> None:
    row = TABLE["clamp-op"]
    assert gaps(dataclasses.replace(row, word="no-such-word")) == ["sentence"]
    for column in ("plan", "act", "edit"):
        assert gaps(dataclasses.replace(row, **{column: None})) == [column]
        assert gaps(dataclasses.replace(row, **{column: Never("")})) == [column]
        assert gaps(dataclasses.replace(row, **{column: Never("it is an edit of the model")})) == []


def test_every_row_stands_once_in_one_of_seven_families() -> None:
    words = [row.word for family in FAMILIES for row in family.ROWS]
    assert len(FAMILIES) == 7
    assert sorted(words) == sorted(set(words)) == sorted(REMEDIES)
    for family in FAMILIES:
        name = family.__name__.rpartition(".")[2]
        acts = [row.act for row in family.ROWS if not isinstance(row.act, Never)]
        assert all(act.startswith(f"{name}.") for act in acts), "a family's act stands in its own folder"


def test_sentences_take_a_place_and_a_hint_and_nothing_else() -> None:
    for word, sentence in REMEDIES.items():
        assert set(re.findall(r"\{(\w*)\}", sentence)) <= {"at", "hint"}
        (told,) = remedies(word)
        assert told.kind == word and "{" not in told.text.replace("{", "", 0)


def test_what_has_no_act_says_why_when_it_is_asked_for() -> None:
    for kind, why in (("gated-cell", "other parameters"), ("no-such-word", "no remedy that is known")):
        with install([Change(kind, kind)]) as (made,):
            pass
        assert made.acted == 0
        assert made.problem is not None and why in made.problem and kind in made.problem


def test_what_has_no_edit_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = run(HEAD + "y = torch.sqrt(x)\n")
    change = Change("clamp-op", "", [])
    monkeypatch.setitem(TABLE, "clamp-op", dataclasses.replace(TABLE["clamp-op"], edit=Never("it is never written")))
    with pytest.raises(NoEditError, match="it is never written"):
        edit(change, finding(), seen)
    with pytest.raises(NoEditError, match="clamp-op: it is never written"):
        edits([(change, finding())], seen)
    with pytest.raises(NoEditError, match="no remedy that is known"):
        edit(Change("no-such-word", ""), finding(), seen)


def test_several_edits_are_one_diff_and_one_that_cannot_be_made_names_itself() -> None:
    from gradientflow.records import Place

    seen = run(HEAD + "y = torch.sqrt(x)\nz = torch.sigmoid(y)\n")
    root = Change("clamp-op", "", [Place(FILE, 5, None, "sqrt")], {"eps": 1e-6})
    swap = Change("swap-activation", "", [Place(FILE, 6, None, "sigmoid")], {"to": "relu"})
    made = edits([(root, finding()), (swap, finding())], seen)
    assert made.diff.count("--- a/train.py") == 1
    assert "+z = torch.relu(y)" in made.diff and "-y = torch.sqrt(x)" in made.diff
    with pytest.raises(NoEditError, match="warmup: no optimizer was seen"):
        edits([(root, finding()), (Change("warmup", ""), finding())], seen)


def test_planning_and_writing_need_no_torch_and_acting_does() -> None:
    code = "import sys; sys.modules['torch'] = None; import gradientflow.depth.remedies.write as w, "
    code += "gradientflow.depth.replay.candidates; print(len(w.TABLE))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(TABLE)
    other = code.replace("remedies.write as w", "remedies.install as w")
    assert subprocess.run([sys.executable, "-c", other], capture_output=True, check=False).returncode != 0


def test_a_plan_reads_only_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for and cannot be planned is told with the table's words."""
    monkeypatch.setitem(TABLE, "clamp-op", dataclasses.replace(TABLE["clamp-op"], plan=Never("it is never tried")))
    seen = run(HEAD + "y = torch.sqrt(x)\n")
    found = finding()
    found.remedies = remedies("clamp-op", "zero-grad")

    class Told:
        findings = [found]

    assert candidates.untried(seen, Told()) == [(0, "clamp-op", "it is never tried")]  # type: ignore[arg-type]
