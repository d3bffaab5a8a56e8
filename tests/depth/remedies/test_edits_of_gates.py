"""Gates opened in the source: the edited script trains bit for bit as the script did under the intervention."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradientflow.depth.causes import places
from gradientflow.depth.remedies.install import install
from gradientflow.depth.remedies.write import edit
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.records import Change, Finding, Place, Run
from tests.depth.scripts import plain, watched, write

CLASS = """
import torch
from collections import OrderedDict
from torch import nn

torch.manual_seed(3)


class Net(nn.Module):
    def __init__(self, kind="{kind}"):
        super().__init__()
        {made}
        self.out = nn.Linear({wide}, 1)

    def forward(self, x):
        {used}
        return self.out(h[:, -1])


net = Net()
{between}
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    x = torch.randn(4, 5, 2)
    loss = (net(x) - x[:, :1, 0]).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
CALL = "h, _ = self.rnn(x)"
CELL = "h = x[:, 0] @ torch.zeros(2, 6)\n        for t in range(5):\n            h = self.rnn(x[:, t], h)\n        h = h[:, None]"
STACK = "h = x\n        for layer in self.layers:\n            h = layer(h)[0]"


def script(made: str, used: str = CALL, wide: int = 6, kind: str = "LSTM", between: str = "") -> str:
    return CLASS.format(made=made, used=used, wide=wide, kind=kind, between=between)


FORMS = {
    "LSTM": (script("self.rnn = nn.LSTM(2, 6, batch_first=True)"), "lstm"),
    "GRU": (script("self.rnn = nn.GRU(2, 6, batch_first=True)"), "gru"),
    "two layers, two ways": (script("self.rnn = nn.LSTM(2, 6, num_layers=2, bidirectional=True, batch_first=True)", wide=12), "lstm"),
    "over several lines": (script("self.rnn = nn.GRU(\n            input_size=2,\n            hidden_size=6,\n            batch_first=True,\n        )"), "gru"),
    "moved": (script("self.rnn = nn.LSTM(2, 6, batch_first=True).to('cpu')"), "lstm"),
    "a cell": (script("self.rnn = nn.GRUCell(2, 6)", CELL), "gru_cell"),
    "a cell with two states": (script("self.rnn = nn.LSTMCell(2, 6)", CELL.replace("h = self.rnn(x[:, t], h)", "h = self.rnn(x[:, t], (h, h))[0]")), "lstm_cell"),
    "a class by its name": (script("self.rnn = getattr(nn, kind)(2, 6, batch_first=True)"), "lstm"),
    "a list of layers": (script("self.layers = nn.ModuleList([nn.LSTM(k, 6, batch_first=True) for k in (2, 6)])", STACK), "lstm"),
    "appended": (script("self.layers = nn.ModuleList()\n        for k in (2, 6):\n            self.layers.append(nn.GRU(k, 6, batch_first=True))", STACK), "gru"),
    "in a container": (script("self.body = nn.Sequential(OrderedDict(rnn=nn.LSTM(2, 6, batch_first=True)))", "h, _ = self.body(x)"), "lstm"),
    "biases set again": (script("self.rnn = nn.LSTM(2, 6, batch_first=True)\n        for p in self.rnn.parameters():\n            nn.init.zeros_(p) if p.dim() < 2 else nn.init.orthogonal_(p)"), "lstm"),
}  # fmt: skip


def seen(folder: Path, text: str) -> tuple[Path, Run]:
    file = write(folder, text)
    outcome = watched(file, probe_every=1).outcome
    assert outcome is not None
    return file, outcome.run


def opening(run: Run, name: str) -> Change:
    at = [places.of_op(op, run.meta) for probe in run.probes for op in probe.ops if op.name == name]
    assert at
    return Change("open-gates", "", list(dict.fromkeys(Place(p.file, p.line, None, name) for p in at)), {"bias": 4.0})


def edited(change: Change, run: Run) -> str:
    return edit(change, Finding("", "", 1.0, None, "", {}, []), run).after


@pytest.mark.parametrize("form", FORMS)
def test_the_edit_does_what_the_intervention_did(form: str, tmp_path: Path) -> None:
    text, name = FORMS[form]
    file, run = seen(tmp_path, text)
    change = opening(run, name)
    after = write(tmp_path, edited(change, run), "after.py")
    with install([change]) as (made,):
        acted = plain(file).scope["net"]
    assert made.problem is None and made.acted >= 2
    written, before = plain(after).scope["net"], plain(file).scope["net"]
    assert all(torch.equal(a, b) for a, b in zip(acted.parameters(), written.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before.parameters(), written.parameters(), strict=True))


def test_half_stands_in_each_bias_of_the_keeping_gate_and_nowhere_else(tmp_path: Path) -> None:
    _, run = seen(tmp_path, FORMS["LSTM"][0])
    text = edited(opening(run, "lstm"), run).replace("range(3)", "range(0)")
    start = plain(write(tmp_path, text, "after.py")).scope["net"].rnn
    before = plain(write(tmp_path, FORMS["LSTM"][0].replace("range(3)", "range(0)"), "before.py")).scope["net"].rnn
    for (name, new), old in zip(start.named_parameters(), before.parameters(), strict=True):
        gates = list(zip(new.chunk(4), old.chunk(4), strict=True))
        assert [bool(torch.equal(a, b)) for a, b in gates] == [True, "weight" in name, True, True]
        assert "weight" in name or gates[1][0].tolist() == [2.0] * 6


REFUSED = {
    "no biases": (script("self.rnn = nn.LSTM(2, 6, batch_first=True, bias=False)"), "without biases"),
    "a choice": (script("self.rnn = nn.LSTM(2, 6, batch_first=True) if kind == 'LSTM' else nn.GRU(2, 6, batch_first=True)"), "no name of its own"),
    "set elsewhere": (
        script("self.rnn = nn.LSTM(2, 6, batch_first=True)", between="for p in net.rnn.parameters():\n    nn.init.uniform_(p, -0.1, 0.1)"),
        "set again at",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_opened_safely_says_why(form: str, tmp_path: Path) -> None:
    text, why = REFUSED[form]
    _, run = seen(tmp_path, text)
    with pytest.raises(NoEditError, match=why):
        edited(opening(run, "lstm"), run)


def test_layers_that_are_not_meant_stay_shut(tmp_path: Path) -> None:
    text = script(
        "self.layers = nn.ModuleList([\n            nn.LSTM(2, 6, batch_first=True),\n            nn.LSTM(6, 6, batch_first=True),\n        ])",
        "h = self.layers[0](x)[0]\n        h = self.layers[1](h)[0]",
    )
    _, run = seen(tmp_path, text)
    change = opening(run, "lstm")
    assert len(change.places) == 2
    assert "chunk(4)" in edited(change, run)  # both are meant
    change.places = change.places[:1]
    with pytest.raises(NoEditError, match="other gated layers"):
        edited(change, run)
