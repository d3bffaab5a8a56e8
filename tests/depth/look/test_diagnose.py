"""`diagnose`: the right symptom, cause and line from one backward pass, and healthy where nothing is wrong."""

from __future__ import annotations

import functools
import io
import json
import linecache
import math
from typing import Any

import msgspec
import pytest
import torch
from rich.console import Console
from torch import nn

import gradientflow as gf
from gradientflow.errors import UsageError
from gradientflow.records import SCHEMA, Verdict
from tests.depth.look import nets

F = nn.functional


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def diagnosed(model: Any, loss: Any = F.cross_entropy, batch: Any = None, **options: Any) -> gf.Diagnosis:
    found = gf.diagnose(model, loss, batch or nets.batch(), **options)
    assert not found.verdict.watch.errors, "our own code failed"
    return found


# ── symptom, cause, line ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_deep_sigmoid_net_is_vanishing_at_its_line() -> None:
    found = diagnosed(nets.Stack("sigmoid"))
    assert (found.symptom, found.cause) == ("vanishing", "saturating-activation")
    assert found.place is not None and found.place.file is not None
    assert found.place.file.endswith("look/nets.py") and found.place.line == nets.line_of("# the activation")
    assert found.decades is not None and -13 < found.decades < -7
    assert not found.healthy
    assert found.budget.total_decades == pytest.approx(sum(r.decades or 0.0 for r in found.budget.by_op), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_its_healthy_twins_are_healthy(seed: int) -> None:
    torch.manual_seed(seed)
    for model in (
        nets.Stack("relu", depth=2), nets.Stack("sigmoid", depth=1), nets.Gated(skip=True), nets.Cut(cut=False),
        nets.ready_made(nn.Tanh), nets.small_weights(32**-0.5),
    ):  # fmt: skip
        found = diagnosed(model, batch=nets.batch(seed))
        assert found.healthy and found.cause is None and found.findings == [], f"{type(model).__name__}: {found!r}"
        assert "not looked at" in found.summary.lower()  # one look says what it does not see


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_factor_on_the_loss_changes_nothing(factor: float) -> None:
    for make in (lambda: nets.Stack("sigmoid"), lambda: nets.Stack("relu", 2), lambda: nets.Cut(cut=True)):
        torch.manual_seed(0)
        plain = diagnosed(make())
        torch.manual_seed(0)
        scaled = diagnosed(make(), lambda output, y: factor * F.cross_entropy(output, y))
        assert (scaled.symptom, scaled.cause, scaled.place) == (plain.symptom, plain.cause, plain.place)


class Wrapped(nn.Module):
    """Another model, under another name."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.wrapped = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wrapped(x)


@pytest.mark.parametrize("change", ["batch", "float64", "bfloat16", "wrapped"])
def test_what_does_not_matter_changes_nothing(change: str) -> None:
    for make in (lambda: nets.Stack("sigmoid"), lambda: nets.Stack("relu", 2), lambda: nets.Cut(cut=True)):
        torch.manual_seed(0)
        plain = diagnosed(make())
        torch.manual_seed(0)
        model, (x, y) = make(), nets.batch(rows=128 if change == "batch" else 64)
        if change in ("float64", "bfloat16"):
            model, x = model.to(getattr(torch, change)), x.to(getattr(torch, change))
        if change == "wrapped":
            model = Wrapped(model)
        found = diagnosed(model, batch=(x, y))
        assert (found.symptom, found.cause) == (plain.symptom, plain.cause)
        assert (found.place and found.place.line) == (plain.place and plain.place.line)


def test_a_ready_made_container_is_placed_where_its_layer_was_written() -> None:
    model = nets.ready_made(nn.Sigmoid)
    found = diagnosed(model)
    assert (found.symptom, found.cause) == ("vanishing", "saturating-activation")
    assert found.place is not None and found.place.file is not None and found.place.file.endswith("nets.py")
    first = nets.line_of("def ready_made") + 1
    assert found.place.line is not None and first < found.place.line <= first + 7
    layers = nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(32, 32), nn.Sigmoid())], nn.Linear(32, 5))  # here
    found = diagnosed(layers)
    assert found.place is not None and found.place.line == nets.line_of("# here", __file__)


@pytest.mark.parametrize("built", ["before", "under watch"])
def test_an_initialisation_is_placed_at_its_line(built: str) -> None:
    if built == "before":
        model = nets.small_weights(0.01)
        found = diagnosed(model)
    else:
        found = diagnosed(lambda: nets.small_weights(0.01))
    assert (found.symptom, found.cause) == ("vanishing", "init-too-small")
    assert found.place is not None and (found.place.line, found.place.op) == (nets.line_of("# the init"), "normal_")


@pytest.mark.parametrize(
    "name", ["<stdin>", "<ipython-input-3-0123>", "<python-input-7>", "/tmp/ipykernel_7/123.py", "<string>"]
)
def test_a_model_typed_at_a_prompt_is_placed_at_its_line(name: str) -> None:
    source = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(32, 32) for _ in range(12))
    def forward(self, x):
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return x
found = diagnosed(Net(), lambda output, y: output[:, :5].logsumexp(1).mean())
"""
    if name not in ("<stdin>", "<string>"):
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    scope: dict[str, Any] = {"diagnosed": diagnosed}
    exec(compile(source, name, "exec"), scope)
    found = scope["found"]
    assert found.symptom == "vanishing"
    assert found.place.file.endswith(name.removeprefix("/tmp/")) and found.place.line == 9
    if name not in ("<stdin>", "<string>"):
        assert "torch.sigmoid(layer(x))" in str(found)


def test_the_birth_of_a_nan_is_named() -> None:
    found = diagnosed(nets.Root(itself=True), lambda output, y: output.mean())
    assert (found.symptom, found.cause) == ("not-finite", "singular-op")
    assert found.place is not None and found.place.line == nets.line_of("# the root")
    assert diagnosed(nets.Root(itself=False), lambda output, y: output.mean()).healthy


# ── claims about time are looked at again ────────────────────────────────────────────────────────────────────────────


def zeroed(*names: str) -> nn.Module:
    net = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 5))
    for name in names:
        nn.init.zeros_(net.get_parameter(name))
    return net


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_what_wakes_at_the_first_step_is_healthy_and_what_does_not_is_dead(factor: float) -> None:
    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return factor * F.cross_entropy(output, y)

    assert diagnosed(nets.Gated(skip=False), loss).healthy  # a gate at zero: no gradient passes it on the first step
    assert diagnosed(zeroed("4.weight"), loss).healthy  # an output layer that begins at zero, on purpose
    found = diagnosed(zeroed("4.weight", "2.weight", "2.bias"), loss)
    assert found.symptom == "dead" and found.findings[0].evidence["still_there_after_steps"] == 3


def test_equal_units_stay_equal_unless_what_follows_tells_them_apart() -> None:
    net = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 5))
    nn.init.constant_(net[0].weight, 0.1)
    nn.init.zeros_(net[0].bias)
    assert diagnosed(net).healthy  # the next layer is random: the units part at the first step
    with torch.no_grad():
        net[2].weight.copy_(torch.randn(5, 1).expand(5, 16))  # now it takes all units alike
    found = diagnosed(net)
    assert found.cause == "symmetric-init" and found.findings[0].evidence["still_there_after_steps"] == 3


def test_a_model_that_cannot_be_copied_is_told_with_less_confidence() -> None:
    net = zeroed("4.weight", "2.weight", "2.bias")
    sure = diagnosed(net).findings[0].confidence
    net.lock = (x for x in ())  # a generator cannot be copied
    found = diagnosed(net)
    assert found.findings[0].confidence == pytest.approx(0.7 * sure, abs=0.01)
    assert found.findings[0].evidence["looked_at_again"] is False


# ── wires ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_detached_encoder_is_disconnected_at_the_cut() -> None:
    found = diagnosed(nets.Cut(cut=True))
    assert (found.symptom, found.cause) == ("disconnected", "disconnected-parameters")
    assert found.place is not None and found.place.line == nets.line_of("# the cut")
    assert found.findings[0].evidence["names"] == ["encoder.weight", "encoder.bias"]  # and not the spare head


def test_a_loss_without_a_way_back_is_disconnected() -> None:
    found = diagnosed(nets.Stack("relu", 2), lambda output, y: F.cross_entropy(output.detach(), y))
    assert found.symptom == "disconnected" and found.findings[0].evidence["without_gradient"] == 6
    frozen = nets.Stack("relu", 2).requires_grad_(False)
    assert diagnosed(frozen).findings[0].evidence["frozen"] == 6
    half = nets.Stack("relu", 2)
    half.layers[0].requires_grad_(False)  # a frozen layer is meant to be
    assert diagnosed(half).healthy


# ── training a copy ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_that_is_too_large_shows_in_a_copy_and_one_that_is_not_does_not() -> None:
    sgd = functools.partial(torch.optim.SGD, lr=100.0)
    found = diagnosed(nets.Stack("relu", 2), optimizer=sgd)
    assert found.cause == "step-too-large" and found.verdict.steps <= 50
    found = diagnosed(nets.Stack("relu", 2), optimizer=functools.partial(torch.optim.SGD, lr=0.1), steps=30)
    assert found.healthy and found.verdict.steps == 30
    assert found.verdict.loss.last is not None and found.verdict.loss.first is not None
    assert found.verdict.loss.last < found.verdict.loss.first


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "LBFGS"])
def test_an_optimizer_of_the_model_is_copied_and_left_alone(name: str) -> None:
    net = nets.Stack("relu", 2)
    tool = getattr(torch.optim, name)(net.parameters(), lr=0.01)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert diagnosed(net, optimizer=tool, steps=8).verdict.steps == 8
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not tool.state


def test_a_function_that_builds_the_model_can_be_trained() -> None:
    found = diagnosed(lambda: nets.Stack("relu", 2), optimizer=torch.optim.Adam, steps=5)
    assert found.healthy and found.run.meta.optimizers[0].name == "Adam"


def test_a_loss_that_holds_the_model_is_refused_where_a_copy_is_trained() -> None:
    net = nets.Stack("relu", 2)

    def decayed(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output, y) + sum(p.square().sum() for p in net.parameters())

    with pytest.raises(UsageError, match="not the copy"):
        diagnosed(net, decayed, optimizer=torch.optim.Adam, steps=2)
    assert diagnosed(net, decayed).healthy


# ── forms of the question ────────────────────────────────────────────────────────────────────────────────────────────


class Named(nn.Module):
    """Takes its input by name, as models of text do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": F.cross_entropy(self.inner(x), labels)}


def test_every_form_of_loss_and_batch_asks_the_same() -> None:
    x, y = nets.batch()
    net = nets.Stack("relu", 2)
    plain = diagnosed(net)
    for found in (
        diagnosed(net, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])),
        diagnosed(net, lambda output, target: F.cross_entropy(output, target), [x, y]),
        diagnosed(net, nn.CrossEntropyLoss()),
        diagnosed(net, F.cross_entropy, ((x,), y)),
        diagnosed(net, F.cross_entropy, ({"x": x}, y)),
    ):
        assert found.verdict.loss == plain.verdict.loss and found.decades == plain.decades
    assert (
        diagnosed(Named(), lambda output, batch: output["loss"], {"x": x, "labels": y}).verdict.loss.first is not None
    )


def test_what_cannot_be_asked_is_refused_with_the_mend() -> None:
    net, (x, y) = nets.Stack("relu", 2), nets.batch()
    broken = nets.Stack("relu", 2)
    with torch.no_grad():
        broken.out.weight[0, 0] = math.nan
    for match, call in {
        "expected a torch.nn.Module": lambda: gf.diagnose(3, F.cross_entropy, (x, y)),
        "the loss is int": lambda: gf.diagnose(net, 3, (x, y)),
        "expected a pair": lambda: gf.diagnose(net, F.cross_entropy, x),
        "shape .64,.*mean": lambda: gf.diagnose(net, functools.partial(F.cross_entropy, reduction="none"), (x, y)),
        "lazy layers": lambda: gf.diagnose(nn.LazyLinear(3), F.cross_entropy, (x, y)),
        "no parameters": lambda: gf.diagnose(nn.ReLU(), F.cross_entropy, (x, y)),
        "steps=3 without an optimizer": lambda: gf.diagnose(net, F.cross_entropy, (x, y), steps=3),
        "steps=0": lambda: gf.diagnose(net, F.cross_entropy, (x, y), steps=0, optimizer=torch.optim.Adam),
        "none of the model's": lambda: gf.diagnose(
            net, F.cross_entropy, (x, y), optimizer=torch.optim.SGD(broken.parameters())
        ),
        "out.weight hold values": lambda: gf.diagnose(broken, F.cross_entropy, (x, y)),
    }.items():
        with pytest.raises(UsageError, match=match):
            call()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):  # the model's own errors pass through
        gf.diagnose(net, F.cross_entropy, (x[:, :3], y))


def test_it_looks_where_gradients_are_switched_off() -> None:
    net, batch = nets.Stack("sigmoid"), nets.batch()
    with torch.no_grad():
        assert diagnosed(net, batch=batch).symptom == "vanishing"
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert diagnosed(net, batch=batch).symptom == "vanishing"
        assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("compiled", ["whole", "in place", "a part"])
def test_a_compiled_model_is_looked_at_as_it_was_written(compiled: str) -> None:
    net = nets.Stack("sigmoid")
    if compiled == "in place":
        net.compile(backend="eager")
    elif compiled == "a part":
        net.out = torch.compile(net.out, backend="eager")
    found = diagnosed(torch.compile(net, backend="eager") if compiled == "whole" else net)
    assert found.symptom == "vanishing" and found.place is not None
    assert found.place.line == nets.line_of("# the activation")


# ── how it shows itself ──────────────────────────────────────────────────────────────────────────────────────────────


def test_it_shows_itself_everywhere(tmp_path: Any) -> None:
    found = diagnosed(nets.Stack("sigmoid"))
    lines = repr(found).splitlines()
    assert 1 < len(lines) < 5 and lines[0].startswith("▼ vanishing: Stack.") and "nets.py:" in lines[1]
    assert "the gradient's way back" in str(found) and "\x1b" not in str(found)
    console = Console(record=True, width=120, force_terminal=True, color_system="truecolor", file=io.StringIO())
    console.print(found)
    assert "saturating-activation" in console.export_text()
    html = found._repr_html_()
    assert html.startswith("<pre") and "saturating-activation" in html and "<script" not in html
    data = json.loads(found.to_json())
    assert data["schema"] == SCHEMA and msgspec.convert(data, Verdict).symptom == "vanishing"
    page = found.to_html(tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!") and "saturating-activation" in page
    healthy = diagnosed(nets.Stack("relu", 2))
    assert len(repr(healthy).splitlines()) == 1 and repr(healthy).startswith("✓ healthy")
