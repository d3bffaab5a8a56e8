"""The second budget: what each optimizer's rule says of an update is what the weights did, for every optimizer and option."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from gradientflow.depth.watch.update_rules import RULES
from gradientflow.records import GroupStep
from tests.depth.watch.steps import Bench, batch, net, steps

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "dampening": 0.3}, {"weight_decay": 0.3},
            {"momentum": 0.5, "weight_decay": 0.3, "maximize": True}],
    "Adam": [{}, {"weight_decay": 0.3}, {"amsgrad": True}, {"maximize": True, "betas": (0.5, 0.6)}, {"eps": 0.1},
             {"weight_decay": 0.3, "decoupled_weight_decay": True}],
    "AdamW": [{}, {"weight_decay": 0.5}, {"amsgrad": True, "maximize": True}],
    "NAdam": [{}, {"weight_decay": 0.3}, {"weight_decay": 0.3, "decoupled_weight_decay": True}, {"maximize": True}],
    "RAdam": [{}, {"betas": (0.5, 0.9)}, {"weight_decay": 0.3}, {"weight_decay": 0.3, "decoupled_weight_decay": True}],
    "Adamax": [{}, {"weight_decay": 0.3}, {"maximize": True}],
    "Adagrad": [{}, {"weight_decay": 0.3, "lr_decay": 0.5}, {"initial_accumulator_value": 1.0, "maximize": True}],
    "RMSprop": [{}, {"centered": True}, {"momentum": 0.9}, {"momentum": 0.9, "centered": True, "weight_decay": 0.3}],
}  # fmt: skip
CASES = [(name, options) for name, many in OPTIONS.items() for options in many]
BOXED = {"ASGD", "Adadelta", "Adafactor", "LBFGS", "Muon", "Rprop", "SparseAdam"}


def made(name: str, params: Any, **options: Any) -> Optimizer:
    found: Optimizer = getattr(torch.optim, name)(params, **({"lr": 0.01} | options))
    return found


def explained(taken: list[list[GroupStep]], close: float = 1e-4) -> None:
    """Every step was followed to the weights, nothing of it is left unexplained, and nearly all of it landed."""
    for g in (g for groups in taken for g in groups):
        assert not g.boxed
        assert g.unexplained is not None and g.unexplained < 1e-9
        assert g.lost is not None and g.lost < 0.01
        assert [s.name for s in g.stages][:2] == ["gradient", "between"]
        assert g.stages[-1].name == "rounding"
        assert g.stages[-1].norm == g.update > 0
        assert g.update == pytest.approx(g.stages[-2].norm, rel=close)


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n} {o}" for n, o in CASES])
@pytest.mark.parametrize("foreach", [False, True], ids=["for", "foreach"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_the_rule_is_what_the_weights_did(
    name: str, options: dict[str, Any], foreach: bool, dtype: torch.dtype
) -> None:
    taken = steps(lambda m: made(name, m.parameters(), foreach=foreach, **options), 8, dtype)
    assert len(taken) == 8
    explained(taken, 1e-4 if dtype == torch.float32 else 1e-10)


def test_the_stages_are_those_of_the_rule() -> None:
    """By hand: a decade of momentum, a tenth of a rate, a decay of the weights."""
    p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([p], lr=0.1, momentum=0.5, weight_decay=0.2)
    bench = Bench(optimizer, lambda: (p * torch.tensor([0.6, 0.8], dtype=torch.float64)).sum())
    ((first,), (second,)) = bench.step(), bench.step()
    norms = {s.name: s.norm for s in first.stages}
    assert norms == pytest.approx(
        {"gradient": 1.0, "between": 1.0, "decay": 2.0, "momentum": 2.0, "learning rate": 0.2, "rounding": 0.2}
    )  # (the gradient lies along the weights, 1 + 0.2 × 5)
    assert {s.name: s.norm for s in second.stages}["momentum"] == pytest.approx(0.5 * 2.0 + 1 + 0.2 * 4.8)


def test_what_happens_between_is_a_stage() -> None:
    model, (x, y) = net(), batch()
    bench = Bench(torch.optim.SGD(model.parameters(), lr=0.1), lambda: ((model(x) - y) ** 2).mean())
    (g,) = bench.step(lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3))
    assert g.stages[0].norm > 0.1
    assert [s.norm for s in g.stages[1:]] == pytest.approx([1e-3, 1e-4, 1e-4], rel=1e-2)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_in_half_precision_what_does_not_land_is_rounding(name: str) -> None:
    for (g,) in steps(lambda m: made(name, m.parameters(), lr=1e-5), dtype=torch.bfloat16):
        assert g.unexplained is not None and g.unexplained < 0.01
        assert g.lost is not None and g.lost > 0.2
        assert g.lost_energy is not None and 0 < g.lost_energy <= 1


@pytest.mark.parametrize("name", list(OPTIONS))
def test_each_group_by_its_own_options(name: str) -> None:
    taken = steps(
        lambda m: made(
            name, [{"params": m[0].parameters(), "lr": 0.3, "weight_decay": 0.5}, {"params": m[2].parameters()}], weight_decay=0.0
        )
    )  # fmt: skip
    explained(taken)
    for own, other in taken:
        assert (own.group, own.options["lr"], other.group, other.options["lr"]) == (0, 0.3, 1, 0.01)
        assert "decay" in [s.name for s in own.stages]
        assert "decay" not in [s.name for s in other.stages]


def test_a_rate_that_is_a_tensor() -> None:
    explained(steps(lambda m: made("AdamW", m.parameters(), lr=torch.tensor(0.01))))


def test_parameters_that_begin_to_learn_at_different_steps() -> None:
    """At RAdam's first steps the variance is not known: tensors of one group stand on either side."""

    def ahead(k: int, model: nn.Sequential) -> None:
        for p in model[0].parameters():
            p.requires_grad_(k >= 4)
            p.grad = None

    taken = steps(lambda m: made("RAdam", m.parameters(), betas=(0.5, 0.7)), 12, ahead=ahead)
    explained(taken)
    assert [len(g.params) for (g,) in taken] == [2] * 4 + [4] * 8


def test_where_eps_is_larger_than_the_root_it_rules() -> None:
    model, (x, y) = net(), batch()
    for eps, share in ((1e3, 1.0), (1e-12, 0.0)):
        bench = Bench(torch.optim.Adam(model.parameters(), eps=eps), lambda: ((model(x) - y) ** 2).mean())
        (g,) = bench.step()
        assert g.eps_rules == share


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # (Adagrad's own sparse tensors)
@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_sparse_gradients_of_an_embedding(name: str) -> None:
    torch.manual_seed(0)
    table, words = nn.Embedding(10, 3, sparse=True), torch.tensor([1, 2, 2, 5])
    bench = Bench(made(name, table.parameters(), lr=0.1), lambda: (table(words) ** 2).sum())
    explained([bench.step() for _ in range(3)])


def test_complex_weights() -> None:
    p = nn.Parameter(torch.tensor([1 + 2j, 0.5 - 1j]))
    bench = Bench(torch.optim.SGD([p], lr=0.1, momentum=0.9), lambda: (p.abs() ** 2).sum())
    explained([bench.step() for _ in range(3)])


def test_parameters_without_a_gradient_are_left_out() -> None:
    idle = nn.Linear(2, 2)
    taken = steps(lambda m: made("Adam", [*m.parameters(), *idle.parameters()]))
    explained(taken)
    assert [g.params for (g,) in taken] == [[0, 1, 2, 3]] * 4


def test_a_rate_of_zero_is_no_unexplained_step() -> None:
    for (g,) in steps(lambda m: made("SGD", m.parameters(), lr=0.0)):
        assert g.update == 0.0
        assert g.unexplained is None
        assert g.lost is None


# ── controls ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def halved(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    with torch.no_grad():
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.mul_(0.5)


def test_what_else_moves_the_weights_within_the_step_is_unexplained() -> None:
    def hooked(model: nn.Sequential) -> Optimizer:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.register_step_post_hook(halved)  # type: ignore[arg-type]
        return optimizer

    assert all((g.unexplained or 0.0) > 0.01 for (g,) in steps(hooked))


def test_a_wrong_rule_is_unexplained() -> None:
    """Decay that is in the group and not in the step."""
    model, (x, y) = net(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.3)
    bench = Bench(optimizer, lambda: ((model(x) - y) ** 2).mean())
    step = optimizer.step

    def other(closure: Any = None) -> Any:
        optimizer.param_groups[0]["weight_decay"] = 0.0
        try:
            return step(closure)
        finally:
            optimizer.param_groups[0]["weight_decay"] = 0.3

    optimizer.step = other  # type: ignore[method-assign]
    (g,) = bench.step()
    assert (g.unexplained or 0.0) > 0.01


def test_an_optimizer_whose_rule_is_not_known_is_one_box() -> None:
    for (g,) in steps(lambda m: torch.optim.Rprop(m.parameters(), lr=0.01)):
        assert g.boxed
        assert g.unexplained is None
        assert [s.name for s in g.stages] == ["gradient", "between", "rule", "learning rate"]
        assert g.stages[2].norm == pytest.approx(g.update / 0.01)


def test_a_class_of_the_scripts_own_is_one_box_whatever_its_name() -> None:
    class SGD(torch.optim.SGD):
        pass

    assert all(g.boxed for (g,) in steps(lambda m: SGD(m.parameters(), lr=0.1)))


def test_every_rule_is_tried_and_what_else_pytorch_offers_is_boxed() -> None:
    """Fails when PyTorch gets a new optimizer: it is one box until its rule is written down."""
    assert set(OPTIONS) == set(RULES)
    kinds = {name: getattr(torch.optim, name) for name in dir(torch.optim)}
    there = {n for n, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Optimizer)}
    assert there - {"Optimizer"} - set(RULES) == BOXED
