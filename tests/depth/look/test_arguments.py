"""Wrong arguments of every call of the depth wing: refused before anything is hurt, with what, expected, got, and the mend."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gradientflow as gf
from gradientflow.errors import UsageError
from tests.depth.look import nets
from tests.depth.look.test_patient import state

F = nn.functional
SGD = functools.partial(torch.optim.SGD, lr=0.01)


def diagnosed(model: Any = None, loss: Any = F.cross_entropy, batch: Any = None, **how: Any) -> Any:
    net = nets.Stack("relu", 2) if model is None else model
    return gf.diagnose(net, loss, nets.batch() if batch is None else batch, **how)


def asserted(**how: Any) -> Any:
    return gf.assert_flows(nets.Stack("relu", 2), F.cross_entropy, nets.batch(), **how)


def scripted(net: nn.Module | None = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and in use
        return torch.jit.script(net if net is not None else nn.Linear(32, 5))


def traced() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(nn.Linear(32, 5), nets.batch()[0])


def broken() -> nn.Module:
    net = nn.Linear(32, 5)
    net.weight.data[0, 0] = torch.nan
    return net


# name: (call, words that its message must hold)
REFUSED: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "a scripted model": (lambda: diagnosed(scripted()), ("scripted", "Linear", "before torch.jit")),
    "a traced model": (lambda: diagnosed(traced()), ("traced", "Linear", "before torch.jit")),
    "a scripted part": (lambda: diagnosed(nn.Sequential(scripted(), nn.ReLU())), ("its module 0", "before torch.jit")),
    "a builder of a scripted model": (lambda: diagnosed(scripted), ("scripted", "before torch.jit")),
    "a list": (lambda: diagnosed([nn.Linear(2, 2)]), ("list", "torch.nn.Module")),
    "a state dict": (lambda: diagnosed(nn.Linear(2, 2).state_dict()), ("OrderedDict", "torch.nn.Module")),
    "a class": (lambda: diagnosed(nn.Linear), ("class Linear", "in_features", "lambda: Linear(…)")),
    "a function with arguments": (lambda: diagnosed(lambda depth: nets.Stack("relu", depth)), ("depth", "without arguments")),
    "a builder of nothing": (lambda: diagnosed(lambda: None), ("NoneType", "builds one")),
    "no parameters": (lambda: diagnosed(nn.Sequential(nn.Tanh())), ("no parameters", "nn.ModuleList")),
    "weights on meta": (lambda: diagnosed(nn.Linear(32, 5, device="meta")), ("weight", "meta", "to_empty")),
    "lazy weights": (lambda: diagnosed(nn.LazyLinear(5)), ("lazy", "model(x)")),
    "broken weights": (lambda: diagnosed(broken()), ("weight", "not finite", "gf.watch()")),
    "a loss that is a word": (lambda: diagnosed(loss="mse"), ("str", "cross_entropy")),
    "a loss per sample": (
        lambda: diagnosed(loss=functools.partial(F.cross_entropy, reduction="none")),
        ("shape (64,)", "one real number", ".mean()"),
    ),
    "a loss of nothing": (lambda: diagnosed(loss=lambda o, t: None), ("returned None", "return loss")),
    "a loss that is a float": (lambda: diagnosed(loss=lambda o, t: F.cross_entropy(o, t).item()), ("float", ".item()")),
    "a loss and more": (lambda: diagnosed(loss=lambda o, t: (F.cross_entropy(o, t), o)), ("tuple", "loss alone")),
    "a complex loss": (lambda: diagnosed(loss=lambda o, t: o.sum() * 1j), ("complex64", ".abs()")),
    "a batch of one": (lambda: diagnosed(batch=(nets.batch()[0],)), ("tuple of 1", "(x, y)")),
    "a batch of three": (lambda: diagnosed(batch=(*nets.batch(), 1)), ("tuple of 3", "def loss(model, batch)")),
    "a batch that is a tensor": (lambda: diagnosed(batch=nets.batch()[0]), ("shape (64, 32)", "(x, y)")),
    "an optimizer that is a number": (lambda: diagnosed(optimizer=0.1), ("float", "functools.partial")),
    "an optimizer of another model": (lambda: diagnosed(optimizer=SGD(nn.Linear(2, 2).parameters())), ("none of the model's",)),
    "an optimizer's function of nothing": (lambda: diagnosed(optimizer=lambda params: None), ("NoneType", "torch.optim.Optimizer")),
    "steps without an optimizer": (lambda: diagnosed(steps=3), ("steps=3", "functools.partial")),
    **{
        f"steps={steps!r}": (lambda steps=steps: diagnosed(optimizer=SGD, steps=steps), (f"steps={steps!r}", "1 or more", "50"))
        for steps in (0, -1, 2.5, True, "3", float("nan"))
    },
    **{
        f"allow={allow!r}": (lambda allow=allow: asserted(allow=allow), ("neither a symptom nor a cause", "vanishing", "dead-units"))
        for allow in (("zzz",), "zzz", ["vanishing", "zzz"], ("healthy",), "any", [5])
    },
    "allow, nearly": (lambda: asserted(allow="vanishng"), ("did you mean vanishing?",)),
    "allow=None": (lambda: asserted(allow=None), ("allow=None", "words of the verdict")),
    **{
        f"max_decades={most!r}": (lambda most=most: asserted(max_decades=most), (f"max_decades={most!r}", "above 0"))
        for most in (0, -2.0, True, "2", float("nan"))
    },
    **{
        f"probe_every={every!r}": (lambda every=every: gf.watch(probe_every=every), (f"probe_every={every!r}", "1 or more", "schedule"))
        for every in (0, -1, 2.0, True, "2")
    },
    **{
        f"out={out!r}": (lambda out=out: gf.watch(out=out), (f"out={out!r}", "a folder"))
        for out in ("", 3, b"")
    },
    "watching a class": (lambda: gf.watch(nn.Linear), ("type", "expected models")),  # type: ignore[arg-type]
    "watching a list": (lambda: gf.watch([nn.Linear(2, 2)]), ("list", "expected models")),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_argument_is_refused_with_the_mend(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(UsageError) as told:
        call()
    assert not [word for word in words if word not in str(told.value)], str(told.value)


def test_a_builder_that_compiles_is_refused_and_a_compiled_model_is_looked_at_as_it_was_written() -> None:
    with pytest.raises(UsageError, match=r"leaves torch\.compile out"):
        diagnosed(lambda: torch.compile(nets.Stack("sigmoid"), backend="eager"))
    assert diagnosed(torch.compile(nets.Stack("sigmoid"), backend="eager")).symptom == "vanishing"


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x, y: diagnosed(batch=(x[:, :3], y)), RuntimeError, ("model(x)", "(Linear)", "(64, 3)", "float32")),
        (lambda x, y: diagnosed(batch=(x, y[:3])), ValueError, ("loss(output, target)", "(64, 5)", "(3,)")),
        (lambda x, y: diagnosed(batch={"z": x}), TypeError, ("model(**batch)", "(64, 32)")),
        (lambda x, y: diagnosed(batch=((x, x), y)), TypeError, ("model(*x)", "(64, 32)")),
        (lambda x, y: diagnosed(loss=lambda model, batch: model(batch[0][:, 1:])), RuntimeError, ("loss(model, batch)",)),
    ],
)  # fmt: skip
def test_an_error_of_the_call_itself_passes_with_a_note_that_says_where(call: Any, kind: Any, words: Any) -> None:
    with pytest.raises(kind) as told:
        call(*nets.batch())
    (note,) = told.value.__notes__
    assert not [word for word in (*words, "gradientflow: in ", "by hand") if word not in note], note


@pytest.mark.parametrize(
    "call",
    [
        lambda net: gf.diagnose(net, lambda o, t: None, nets.batch()),
        lambda net: gf.diagnose(net, lambda o, t: o, nets.batch()),
        lambda net: gf.diagnose(net, F.cross_entropy, (nets.batch()[0][:, :3], nets.batch()[1])),
        lambda net: gf.diagnose(net, F.cross_entropy, nets.batch(), optimizer=SGD, steps=0),
        lambda net: gf.assert_flows(net, F.cross_entropy, nets.batch(), allow="zzz"),
    ],
)
def test_what_is_refused_leaves_the_model_as_it_was(call: Any) -> None:
    net, batch = nets.Stack("sigmoid", 2), nets.batch()
    F.cross_entropy(net(batch[0]), batch[1]).backward()
    net[0].weight.register_post_accumulate_grad_hook(lambda p: None) if isinstance(net, nn.Sequential) else None
    before = state(net, batch)
    with pytest.raises(Exception):  # noqa: B017 (each kind is told above)
        call(net)
    assert state(net, batch) == before


def test_what_fits_is_taken() -> None:
    assert asserted(allow=("dead", "dead-units", "not-measured"), max_decades=float("inf")).healthy
    assert diagnosed(optimizer=SGD, steps=2).healthy
    assert diagnosed(functools.partial(nets.Stack, "relu", 2)).healthy
    with gf.watch(probe_every=1):
        pass
