"""The script's own warnings: taken down where they are shown, and nowhere changed; quoted by the finding that they are about."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gradientflow.depth.causes.heard import HEARD, heard, quoted
from gradientflow.depth.watch.shield import Shield
from gradientflow.depth.watch.warned import MOST, Warnings
from gradientflow.records import Finding, Place, Warned
from gradientflow.report import print_verdict
from gradientflow.report.tell import warned as told
from tests.hostile import running
from tests.hostile.case import Case, Seen
from tests.hostile.running import Warm
from tests.report.cases import make_healthy
from tests.report.pages import held

LOOP = """
import torch, warnings, numpy as np
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.01)
x, y = torch.randn(16, 4), torch.randn(16)
{before}
for step in range(4):
    opt.zero_grad()
    loss = ((net(x).squeeze(1) - y) ** 2).mean() {loss}
    loss.backward()
    {within}
    opt.step()
print(round(loss.item(), 6))
"""


def script(folder: Path, before: str = "", within: str = "pass", loss: str = "") -> Path:
    file = folder / "train.py"
    file.write_text(LOOP.format(before=textwrap.dedent(before), within=within, loss=loss), encoding="utf-8")
    return file


def both(warm: Warm, file: Path) -> tuple[Seen, dict[str, Any]]:
    """Run a script plain and watched in processes of their own; return the watched one once they agree, and its verdict."""
    case = Case("warned", "warnings", file.read_text(encoding="utf-8"), path=file.name)
    plain, seen = running.both(case, file.parent / "both", warm)
    assert (seen.code, seen.stdout, seen.stderr) == (plain.code, plain.stdout, plain.stderr)
    assert seen.verdict is not None
    return seen, dict(seen.verdict)


def started(file: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The same in interpreters of their own: with options of Python's, or with a stack that begins at the script."""
    out = file.parent / "run"
    plain = subprocess.run([sys.executable, *options, str(file)], capture_output=True, text=True, timeout=120)
    command = [sys.executable, *options, "-m", "gradientflow", "run", "--quiet", "--out", str(out), str(file)]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (seen.returncode, seen.stdout, seen.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    return seen, json.loads((out / "verdict.json").read_text(encoding="utf-8"))


def test_shown_warnings_are_taken_down_with_line_step_and_number(tmp_path: Path, warm: Warm) -> None:
    file = script(
        tmp_path, "warnings.warn('ahead of it all')\nnp.log(np.zeros(1))\nwarnings.simplefilter('always')",
        "warnings.warn(f'step by step', RuntimeWarning)",
    )  # fmt: skip
    seen, verdict = both(warm, file)
    assert seen.stderr.count("step by step") == 2 * 4  # the message and the line
    text = file.read_text(encoding="utf-8").split("\n")
    lines = [1 + next(k for k, line in enumerate(text) if word in line) for word in ("ahead", "np.log", "step by")]
    assert [(w["category"], w["message"], w["steps"], w["count"], w["at_line"]) for w in verdict["warned"]] == [
        ("UserWarning", "ahead of it all", 0, 1, lines[0]),
        ("RuntimeWarning", "divide by zero encountered in log", 0, 1, lines[1]),
        ("RuntimeWarning", "step by step", 0, 4, lines[2]),
    ]
    assert all(w["at_file"].endswith("train.py") for w in verdict["warned"])


def test_what_was_never_shown_is_not_taken_down_and_a_late_warning_tells_its_step(tmp_path: Path, warm: Warm) -> None:
    ways = """
    def ignored():
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            warnings.warn('hidden')
    def recorded():
        with warnings.catch_warnings(record=True):
            warnings.simplefilter('always')
            warnings.warn('kept to itself')
    def raised():
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            try:
                warnings.warn('raised')
            except UserWarning:
                pass
    """
    _, verdict = both(
        warm, script(tmp_path, ways, "ignored(); recorded(); raised(); step == 2 and warnings.warn('late')")
    )
    assert [(w["message"], w["steps"]) for w in verdict["warned"]] == [("late", 2)]


def test_warnings_as_errors_end_the_script_as_they_do_unwatched(tmp_path: Path) -> None:
    seen, verdict = started(script(tmp_path, within="warnings.warn('now an error')"), "-W", "error::UserWarning")
    assert seen.returncode == 1
    assert "UserWarning: now an error" in seen.stderr
    assert verdict["warned"] == []


def test_a_hook_of_the_scripts_own_sees_the_stack_that_it_would_see(tmp_path: Path) -> None:
    own = """
    import sys, traceback, threading
    def mine(message, category, filename, lineno, file=None, line=None):
        traceback.print_stack(file=sys.stderr)
        frame, names = sys._getframe(), []
        while frame is not None and frame.f_code.co_name != '<module>':
            names.append(frame.f_code.co_name); frame = frame.f_back
        print('mine', message, names, warnings.formatwarning(message, category, 'f', 1, 'l'), file=sys.stderr)
    warnings.showwarning = mine
    class Loud(UserWarning):
        def __str__(self):
            print('asked', file=sys.stderr)
            return 'loud'
    warnings.warn(Loud('in words'))
    other = threading.Thread(target=warnings.warn, args=('from a thread',)); other.start(); other.join()
    print(type(warnings.WarningMessage), warnings.WarningMessage.__name__, warnings.filters[:3], warnings.showwarning is mine)
    """
    seen, verdict = started(script(tmp_path, own, "warnings.warn('in the loop')"))
    assert seen.stderr.count("mine") >= 3
    assert [(w["category"], w["message"], w["count"]) for w in verdict["warned"]] == [
        ("Loud", "in words", 1), ("UserWarning", "from a thread", 1), ("UserWarning", "in the loop", 1)
    ]  # fmt: skip


def test_the_number_kept_is_bounded_and_python_is_given_back_as_it_was() -> None:
    made = vars(warnings.WarningMessage)["__init__"]
    listener = Warnings(Shield(), lambda: 7)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        listener.open()
        assert vars(warnings.WarningMessage)["__init__"] is not made
        for k in range(MOST + 5):
            warnings.warn(f"number {k}", stacklevel=1)
        listener.close()
        warnings.warn("afterwards", stacklevel=1)
    assert vars(warnings.WarningMessage)["__init__"] is made
    assert (len(listener.found), listener.more) == (MOST, 5)
    assert {w.steps for w in listener.found} == {7}
    assert "afterwards" not in {w.message for w in listener.found}


def test_a_warning_that_we_cause_ourselves_is_none_of_the_scripts() -> None:
    shield = Shield()
    listener = Warnings(shield, lambda: 0)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        listener.open()
        shield(lambda: warnings.warn("ours", stacklevel=1))
        warnings.warn("theirs", stacklevel=1)  # control
        listener.close()
    assert [w.message for w in listener.found] == ["theirs"]


def finding(cause: str, symptom: str = "crawling", line: int = 1) -> Finding:
    return Finding(symptom, cause, 0.6, Place("train.py", line, None, None), "", {}, [])


@pytest.mark.parametrize(
    ("message", "cause", "symptom"),
    [
        ("Using a target size (torch.Size([16])) that is different to the input size (torch.Size([16, 1])).", "mixed-samples", "crawling"),
        ("Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch 1.1.0 …", "schedule-ended", "crawling"),
        ("None of the inputs have requires_grad=True. Gradients will be None", "disconnected-parameters", "disconnected"),
        ("Casting complex values to real discards the imaginary part (Triggered internally …)", "zero-derivative", "disconnected"),
        ("invalid value encountered in log", "bad-batch", "not-finite"),
        ("To copy construct from a tensor, it is recommended to use …", "disconnected-parameters", "disconnected"),
        ("my loss is nan, skipping", "overflow", "not-finite"),
    ],
)  # fmt: skip
def test_a_finding_quotes_what_is_about_it_and_is_a_little_surer(message: str, cause: str, symptom: str) -> None:
    about, other = finding(cause, symptom), finding("init-too-small", "vanishing")
    about.evidence["gates"] = {"usual": 2.0}
    heard([about, other], [Warned("UserWarning", message, "/lib/loss.py", 3, 0, 1, "train.py", 9)])
    assert message[:20] in about.evidence["the_script_was_warned"]
    assert "train.py:9" in about.evidence["the_script_was_warned"]
    assert about.confidence == pytest.approx(0.6 + HEARD * 0.4)
    assert about.evidence["gates"] == {"usual": 2.0, HEARD.name: HEARD}
    assert other.confidence == 0.6
    assert other.evidence == {}


def test_any_warning_of_the_very_line_is_about_it() -> None:
    w = Warned("UserWarning", "the widget is loose", "train.py", 4, 0, 1, "train.py", 4)
    here, beside = finding("dead-units", "dead", 4), finding("dead-units", "dead", 5)
    heard([here, beside], [w])
    assert here.evidence["the_script_was_warned"] == "UserWarning at train.py:4: the widget is loose"
    assert beside.evidence == {}
    assert len(quoted(Warned("W", "x " * 500, "a/b.py", 1))) < 200


def test_the_broadcasting_loss_is_told_with_pytorchs_own_warning(tmp_path: Path, warm: Warm) -> None:
    file = script(tmp_path, "mse = nn.MSELoss()", loss="* 0 + mse(net(x), y)")
    _, verdict = both(warm, file)
    first = verdict["findings"][0]
    assert first["cause"] == "mixed-samples"
    assert "Using a target size" in first["evidence"]["the_script_was_warned"]
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    _, without = both(
        warm, script(quiet, "mse = nn.MSELoss(); warnings.simplefilter('ignore')", loss="* 0 + mse(net(x), y)")
    )
    assert "the_script_was_warned" not in without["findings"][0]["evidence"]
    assert without["findings"][0]["confidence"] < first["confidence"]


def test_both_reports_have_one_row_of_it() -> None:
    verdict, run = make_healthy()
    calm = str(held(verdict, run).view.notes)
    verdict.warned = [Warned("UserWarning", f"number {k}", "train.py", k, k, 1 + k, "train.py", k) for k in range(5)]
    out = io.StringIO()
    print_verdict(verdict, run, Console(file=out, width=100))
    said = " ".join(out.getvalue().split())
    row = told(verdict.warned)
    assert row in said
    assert said.count("the script was warned") == 1
    assert "number 2" in row
    assert "number 3" not in row
    assert row.endswith("and 2 more")
    assert str(held(verdict, run).view.notes).count("the script was warned") == 1
    assert "the script was warned" not in calm


def test_two_watchers_that_leave_in_the_wrong_order_hear_nothing_afterwards() -> None:
    outer, inner = Warnings(Shield(), lambda: 0), Warnings(Shield(), lambda: 0)
    made = vars(warnings.WarningMessage)["__init__"]
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        outer.open()
        inner.open()
        warnings.warn("both", stacklevel=1)
        outer.close()
        inner.close()
        warnings.warn("neither", stacklevel=1)
    assert [w.message for w in outer.found] == [w.message for w in inner.found] == ["both"]
    warnings.WarningMessage.__init__ = made  # type: ignore[method-assign]
