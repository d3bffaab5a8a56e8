"""The call that rewrites weights between two steps is found at the next occurrence, and the script is none the wiser."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.certificates.continuity import continuity
from gradientflow.depth.causes.rewritten import line
from gradientflow.depth.watch import rewriting
from gradientflow.records import Rewrite, Run
from tests.depth.causes.transits import back
from tests.depth.causes.transits import seen as by_hand
from tests.depth.scripts import differences, plain, watched, write
from tests.depth.watch.steps import line_of, script

KEPT = "import copy\nstart = copy.deepcopy(model.state_dict())\nnames = dict(model.named_parameters())"
CALLS = {
    "load_state_dict": "model.load_state_dict(start)",
    "copy_": "[p.data.copy_(start[n]) for n, p in names.items()]",
    "data = …": "for n, p in names.items(): p.data = start[n].clone()",
    "fill_": "[p.data.fill_(0.1) for p in model.parameters()]",
    "add_": "with torch.no_grad(): [p.add_(start[n] - p) for n, p in names.items()]",
    "__setitem__": "with torch.no_grad(): [p.__setitem__(..., start[n]) for n, p in names.items()]",
    "normal_": "[nn.init.normal_(p, 0.0, 0.1) for p in model.parameters()]",
    "reset_parameters": "[layer.reset_parameters() for layer in (model[0], model[2])]",
    "_foreach_mul_": "with torch.no_grad(): torch._foreach_mul_(list(model.parameters()), 0.5)",
}


def ran(folder: Path, text: str, **more: int) -> Run:
    """Run a script watched, and hold it bit for bit against itself unwatched."""
    file = write(folder, text)
    left = watched(file, **more)
    assert left.outcome is not None
    assert [n.text for n in left.outcome.run.notes if n.kind == "watcher"] == []
    assert differences(plain(file), left) == []
    return left.outcome.run


@pytest.mark.parametrize("probe_every", [1, 10**9], ids=["probed", "hardly probed"])
@pytest.mark.parametrize("name", CALLS)
def test_the_call_is_found_at_the_next_occurrence(name: str, probe_every: int, tmp_path: Path) -> None:
    text = script(start=KEPT, behind=f"if k in (3, 7, 11):\n    {CALLS[name]}  # HERE", count=14)
    found = ran(tmp_path, text, probe_every=probe_every).rewrites
    assert [(r.step, r.name, r.line) for r in found] == [
        (5, None, None),
        (9, name, line_of(text, "# HERE")),
        (13, None, None),
    ]


def test_between_backward_and_the_step(tmp_path: Path) -> None:
    text = script(
        start=KEPT,
        between="if k > 1:\n    model[0].weight.data.mul_(0.99)  # HERE\nmodel[0].bias.grad.mul_(0.5)",
        count=5,
    )
    run = ran(tmp_path, text, probe_every=1)
    assert [r.line for r in run.rewrites] == [None, line_of(text, "# HERE"), None]
    transit = next(p.transit for p in run.probes if p.step == 4)
    assert transit is not None and [a.name for a in transit.alterations] == ["mul_"]  # (the gradient's is still seen)


def test_what_writes_elsewhere_or_changes_nothing_is_not_taken_for_it(tmp_path: Path) -> None:
    behind = f"""
        average = copy.deepcopy(model)
        for p in average.parameters(): p.data.mul_(0.5)
        for p in model.parameters(): p.data.mul_(1.0)
        x.add_(0.0)
        if k in (3, 7): {CALLS["load_state_dict"]}  # HERE
        """
    text = script(start=KEPT, behind=behind, count=10)
    assert [r.line for r in ran(tmp_path, text).rewrites] == [None, line_of(text, "# HERE")]


def test_what_pytorch_shows_to_no_mode_is_named_from_the_source(tmp_path: Path) -> None:
    behind = "if k in (3, 7):\n    with torch.no_grad(): [p.set_(start[n].clone()) for n, p in names.items()]  # HERE"
    text = script(start=KEPT, behind=behind, count=10)
    run = ran(tmp_path, text)
    assert [r.line for r in run.rewrites] == [None, None]
    place = line(Case(run), run.rewrites)
    assert place is not None and (place.op, place.line) == ("set_", line_of(text, "# HERE"))


def test_what_no_call_of_pytorchs_does_is_looked_for_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    plain_search = rewriting.Rewriting.search

    def search(self: rewriting.Rewriting) -> object:
        searches.append(True)
        return plain_search(self)

    monkeypatch.setattr(rewriting.Rewriting, "search", search)
    run = ran(tmp_path, script(behind="model[0].weight.data.numpy()[:] *= 0.9", count=12))
    assert len(run.rewrites) == 11 and all(r.file is None for r in run.rewrites)
    assert sum(searches) == rewriting.SEARCHES


def test_a_search_ends_after_so_many_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "WINDOWS", 3)
    found = ran(tmp_path, script(behind="if k in (1, 8, 10): model[0].weight.data.mul_(0.9)", count=13)).rewrites
    assert [r.line is None for r in found] == [True, True, False]


def seen_at(*lines: int | None) -> list[Rewrite]:
    return [back(k + 2, name="copy_", file="train.py" if at else None, line=at) for k, at in enumerate(lines)]


def test_the_line_of_the_run_goes_before_that_of_the_source() -> None:
    case = Case(by_hand([], rewrites=seen_at(None, 7, 9, 9)))
    case.meta.sources = {"train.py": "model.load_state_dict(start)\n"}
    found = line(case, case.run.rewrites)
    assert found is not None and found.line == 9
    found = line(case, seen_at(None, None))
    assert found is not None and found.line == 1
    assert "by copy_ (train.py:9)" in continuity(case, []).why
