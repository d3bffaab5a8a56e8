"""Never hurt the patient: what a watched script computes is what it computes unwatched, to the last bit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradientflow.depth.watch.monitor import Monitor
from tests.depth.scripts import PROBING, Left, differences, plain, sandbox, watched, write
from tests.depth.watch.training import SCRIPTS

EXAMPLES = Path(__file__).parents[3] / "examples"
SHORTER = {"range(10)": "range(1)", "range(15)": "range(1)", "range(100)": "range(30)", "range(50)": "range(8)"}
UNTRACED = {"func transforms", "per-sample gradients in a loop"}  # no backward call, so nothing to probe


@functools.cache
def _alone(file: Path) -> Left:
    """The unwatched run of a script, made once."""
    return plain(file)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Writes each script once per session."""
    known: dict[str, Path] = {}

    def put(name: str, text: str) -> Path:
        if name not in known:
            known[name] = write(tmp_path_factory.mktemp("script"), text)
        return known[name]

    return put


def _example(name: str) -> str:
    """An example with few epochs, its losses kept."""
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    text = text.replace("range(200)", "range(12)") if name != "sqrt_at_zero" else text
    indent = next(line for line in text.splitlines() if line.strip() == "optimizer.step()")
    return "record = []\n" + text.replace(
        indent, f"{indent}\n{indent[: -len(indent.lstrip())]}record.append(loss.detach().clone())"
    )


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    with sandbox():
        torch.set_num_threads(1)
        yield


@pytest.mark.parametrize("probing", list(PROBING))
@pytest.mark.parametrize("name", sorted(f.stem for f in EXAMPLES.glob("[!f]*.py")))
def test_an_example_is_not_disturbed(shelf: Callable[[str, str], Path], name: str, probing: str) -> None:
    file = shelf(f"example {name}", _example(name))
    left = watched(file, probe_every=PROBING[probing])
    assert differences(_alone(file), left) == []
    assert left.outcome is not None
    assert left.outcome.verdict.watch.errors == []
    assert left.outcome.ending.how == "finished"
    steps = len(left.scope["record"])
    assert left.outcome.verdict.steps == steps >= 8
    assert left.outcome.verdict.watch.probed_steps == {"every step": steps, "first only": 1}.get(
        probing, left.outcome.verdict.watch.probed_steps
    )
    assert left.outcome.verdict.watch.probed_steps >= (1 if probing == "first only" else 2)  # (fewer on a slow machine)


ONCE = {
    "dropout",
    "adam",
    "lbfgs",
    "transformer",
    "gan",
    "by hand with grad",
    "modes within modes",
    "training in a thread",
}


@pytest.mark.parametrize(
    ("name", "probing"), [(n, p) for n in SCRIPTS for p in PROBING if p != "first only" or n in ONCE]
)
def test_a_script_is_not_disturbed(shelf: Callable[[str, str], Path], name: str, probing: str) -> None:
    file = shelf(name, SCRIPTS[name])
    left = watched(file, probe_every=PROBING[probing])
    assert differences(_alone(file), left) == []
    assert left.outcome is not None
    assert left.outcome.verdict.watch.errors == []
    assert left.outcome.ending.how == "finished"
    if (name, probing) != (
        "training in a thread",
        "first only",
    ):  # (its first step is in a thread we were not in before)
        assert (left.outcome.verdict.watch.probed_steps > 0) == (name not in UNTRACED)  # else the comparison is void


def _draw(*_: Any) -> None:
    torch.rand(1)


FAULTS: dict[str, Callable[[Monitor], None]] = {
    "draws one random number at a step": lambda m: setattr(m.schedule, "saw", _draw),
    "draws one random number in the tracer": lambda m: setattr(m.tracer.origins, "see", _draw),
    "touches a gradient": lambda m: setattr(
        m, "_hook_losses", lambda order: [t.grad.mul_(1.001) for _, t in m.registry.live() if t.grad is not None]
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_watcher_that_disturbs_is_found_out(shelf: Callable[[str, str], Path], fault: str) -> None:
    """Negative control: the comparison above sees one random number drawn, or a gradient changed."""
    file = shelf("dropout", SCRIPTS["dropout"])
    left = watched(file, prepare=FAULTS[fault])
    wrong = differences(_alone(file), left)
    assert wrong
    assert any("loss" in k or "record" in k or "model" in k for k in wrong)


def test_two_unwatched_runs_are_the_same(shelf: Callable[[str, str], Path]) -> None:
    """The reference itself is reproducible; a script without a seed of its own included."""
    for name in ("dropout", "no seed", "transformer"):
        file = shelf(name, SCRIPTS[name])
        assert differences(_alone(file), plain(file)) == []


def test_the_sharpness_is_measured_on_what_is_compared(shelf: Callable[[str, str], Path]) -> None:
    """The most intrusive measurement, a second backward pass, does take place in the runs compared above, and is refused,
    with the reason told, on those where it would be noticed.
    """
    left = watched(shelf("dropout", SCRIPTS["dropout"]))
    assert left.outcome is not None
    assert left.outcome.run.probes[0].sharpness is not None
    for name, reason in {
        "custom function": "autograd function in Python",
        "retained gradient": "hooks of its own",
        "hook on a node": "hooks of its own",
        "saved tensor hooks": "hooks of its own",
        "checkpointing, the plain kind": "activation checkpointing",
    }.items():
        left = watched(shelf(name, SCRIPTS[name]))
        assert left.outcome is not None
        assert left.outcome.run.probes[0].sharpness is None
        assert any(reason in note for note in left.outcome.run.probes[0].notes), name


COMPILED = """
import torch
from torch import nn
import torch.nn.functional as F
import torch._dynamo as dynamo
dynamo.reset()
dynamo.utils.counters.clear()
torch.manual_seed(7)
record, graphs = [], [0]
x_all, y_all = torch.randn(40, 6), torch.randint(3, (40,))
def counting(module, inputs):
    graphs[0] += 1
    return module.forward
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    def forward(self, x):
        return self.body(x)
net = Net()
HOW
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(9):
    batch = torch.randperm(40)[:16]
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x_all[batch]), y_all[batch])
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
    if step == 4:
        net.eval()
        with torch.no_grad():
            record.append(model(x_all))
        net.train()
record.append(graphs[0])
record.append(sum(dynamo.utils.counters["graph_break"].values()))
record.append(dict(dynamo.utils.counters["frames"]))
dynamo.reset()
"""
HOW = {
    "module": "model = torch.compile(net, backend=counting, fullgraph=True)",
    "in place": "net.compile(backend=counting, fullgraph=True)\nmodel = net",
    "function": "@torch.compile(backend=counting, fullgraph=True)\ndef model(x):\n    return net(x)",
    "through autograd": "model = torch.compile(net, backend='aot_eager', fullgraph=True)",
    "after some eager steps": """
warm = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    F.cross_entropy(net(x_all), y_all).backward()
    warm.step()
model = torch.compile(net, backend=counting, fullgraph=True)""",
}


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("how", list(HOW))
def test_a_compiled_model_is_not_disturbed(shelf: Callable[[str, str], Path], how: str) -> None:
    """Same numbers, same number of graphs, no graph break: we are off the stack of modes before Dynamo looks at it."""
    file = shelf(f"compiled {how}", COMPILED.replace("HOW", HOW[how]))
    for every in (None, 2) if how == "module" else (2,):
        left = watched(file, probe_every=every)
        assert differences(_alone(file), left) == []
        assert left.outcome is not None
        assert left.outcome.verdict.watch.errors == []
        assert left.outcome.ending.how == "finished"
        assert len(left.outcome.run.steps) >= 9
        assert all(s.loss is not None for s in left.outcome.run.steps[1:])
