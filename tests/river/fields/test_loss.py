"""LossField against plain PyTorch: gradients, Hessians, batches, reductions, dtypes, and a model that is left alone."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from gradientflow.errors import FieldError
from gradientflow.river.fields.loss import LossField
from tests.river.fields.nets import F, data, fingerprint, hessian, mlp, plain, scattered, twin, unchanged

TIGHT = 1e-13


def gap(a, b):
    return float((a - b).norm() / b.norm())


def off(*wheres):
    """A relative difference as a number, of whatever shapes."""
    return max(gap(a, b) for a, b in wheres)


# ── one drop ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_and_gradient_are_those_of_autograd_on_the_module(reduction):
    net, (x, y) = mlp(3, 5, 2), data()
    loss = nn.MSELoss(reduction=reduction)
    field = LossField(net, loss, (x, y))
    want, slope = plain(net, loss, x, y)
    at = field.evaluate(field.start()[None])
    assert torch.equal(at.rate[0], -slope) and torch.equal(at.value[0], want)  # bit for bit
    assert torch.equal(field.value(field.start()[None])[0], want)
    assert field.potential and field.size == slope.numel() and field.dtype == torch.float64


def test_the_hessian_product_is_that_of_the_explicit_hessian():
    field = LossField(mlp(3, 4, 2), F.mse_loss, data())
    theta = scattered(field, 1)
    h = hessian(field, theta[0])
    v = torch.randn(3, field.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = field.linearize(theta)
    for row in v:
        assert gap(product(row[None])[0], -(h @ row)) < TIGHT
    assert gap(product(v[:1])[0], -(hessian(field, 1.01 * theta[0]) @ v[0])) > 1e-4  # the Hessian elsewhere is another


def test_weight_decay_is_part_of_the_potential():
    net, (x, y) = mlp(3, 4, 2), data()
    bare, field = LossField(net, F.mse_loss, (x, y)), LossField(net, F.mse_loss, (x, y), weight_decay=0.3)
    for theta in (scattered(field, 1), scattered(field, 4)):
        assert (
            off(
                (field.evaluate(theta).rate, bare.evaluate(theta).rate - 0.3 * theta),
                (field.value(theta), bare.value(theta) + 0.15 * theta.square().sum(1)),
                (field.linearize(theta)(theta), bare.linearize(theta)(theta) - 0.3 * theta),
            )
            < TIGHT
        )
        assert torch.allclose(field.evaluate(theta).value, field.value(theta), rtol=1e-14)
    assert field.conserved(scattered(field, 1)) == {}


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("size", [1, 5, 10, 23, 100])
def test_cut_batches_give_the_full_batch_also_where_the_last_is_uneven(reduction, size):
    net, (x, y) = mlp(3, 5, 2), data(23)
    loss = functools.partial(F.mse_loss, reduction=reduction)
    full, cut = LossField(net, loss, (x, y)), LossField(net, loss, (x, y), microbatch=size)
    for theta in (scattered(full, 1), scattered(full, 3)):
        v = torch.randn(theta.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        a, b = full.evaluate(theta), cut.evaluate(theta)
        assert off((b.rate, a.rate), (b.value, a.value), (cut.value(theta), a.value)) < TIGHT
        assert gap(cut.linearize(theta)(v), full.linearize(theta)(v)) < TIGHT


def test_the_naive_mean_of_batch_means_would_be_seen():
    net, (x, y) = mlp(3, 5, 2), data(23)
    field = LossField(net, F.mse_loss, (x, y), microbatch=10)
    theta = field.start()[None]
    means = [plain(net, F.mse_loss, x[i : i + 10], y[i : i + 10])[1] for i in (0, 10, 20)]
    naive = -torch.stack(means).mean(0)
    assert gap(naive, field.evaluate(theta).rate[0]) > 1e-2


def test_a_run_repeats_bit_for_bit_and_another_order_of_batches_does_not():
    net, (x, y) = mlp(3, 5, 2).float(), data(200, dtype=torch.float32)
    field, again = (LossField(net, F.mse_loss, (x, y), microbatch=7) for _ in range(2))
    theta = scattered(field, 1)
    assert torch.equal(field.evaluate(theta).rate, again.evaluate(theta).rate)
    assert torch.equal(field.evaluate(theta).rate, field.evaluate(theta).rate)
    batches = [(x[i : i + 7], y[i : i + 7]) for i in range(0, 200, 7)]
    ahead, back = LossField(net, F.mse_loss, batches), LossField(net, F.mse_loss, batches[::-1])
    assert torch.equal(ahead.evaluate(theta).rate, field.evaluate(theta).rate)
    assert not torch.equal(back.evaluate(theta).rate, field.evaluate(theta).rate)  # so the order is what fixes the bits


def test_sums_in_float64_are_closer():
    torch.manual_seed(0)
    net, (x, y) = nn.Linear(3, 2), data(3000, dtype=torch.float32)
    theta = nn.utils.parameters_to_vector(net.parameters())[None].detach()
    exact = LossField(twin(net).double(), F.mse_loss, (x.double(), y.double())).evaluate(theta.double()).rate
    rough = LossField(net, F.mse_loss, (x, y), microbatch=1).evaluate(theta).rate.double()
    fine = LossField(net, F.mse_loss, (x, y), microbatch=1, accumulate=torch.float64).evaluate(theta)
    assert fine.rate.dtype == fine.value.dtype == torch.float32
    assert gap(fine.rate.double(), exact) < 1e-7 < 5 * gap(rough, exact)
    assert gap(rough, exact) > 3 * gap(fine.rate.double(), exact)


def test_a_loader_a_list_and_a_tuple_are_the_same_field():
    net, (x, y) = mlp(3, 5, 2), data(23)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=10)
    fields = [LossField(net, F.mse_loss, d) for d in ((x, y), [(x, y)], [(x[:10], y[:10]), (x[10:], y[10:])], loader)]
    theta = scattered(fields[0], 1)
    want = fields[0].evaluate(theta).rate
    assert all(gap(f.evaluate(theta).rate, want) < TIGHT for f in fields)
    assert [f.batches.number for f in fields] == [1, 1, 2, 3] and all(f.batches.examples == 23 for f in fields)
    assert gap(LossField(net, F.mse_loss, (x[:22], y[:22])).evaluate(theta).rate, want) > 1e-3


def test_cross_entropy_counts_the_targets_that_count():
    torch.manual_seed(0)
    net, x = mlp(3, 5, 4), data(23)[0]
    y = torch.randint(0, 4, (23,), generator=torch.Generator().manual_seed(0))
    y[:9] = -100
    weight = torch.tensor([0.1, 1.0, 2.0, 5.0], dtype=torch.float64)
    for loss in (
        F.cross_entropy,
        nn.CrossEntropyLoss(weight=weight),
        functools.partial(F.cross_entropy, weight=weight),
    ):
        full, cut = LossField(net, loss, (x, y)), LossField(net, loss, (x, y), microbatch=4)
        theta = scattered(full, 1)
        assert (
            gap(cut.evaluate(theta).rate, full.evaluate(theta).rate) < TIGHT
        )  # the first two batches count for nothing
        hidden = LossField(net, lambda out, y, loss=loss: loss(out, y), (x, y), microbatch=4, check=False)
        assert not gap(hidden.evaluate(theta).rate, full.evaluate(theta).rate) < 1e-3  # weighted by examples: wrong


def test_the_reduction_is_read_seen_or_refused():
    net, (x, y) = mlp(3, 5, 2), data(23)

    def total(out, y):
        return (out - y).square().sum()

    def root(out, y):
        return (out - y).square().mean().sqrt()

    full = LossField(net, total, (x, y))
    cut = LossField(net, total, (x, y), microbatch=5)
    theta = scattered(full, 1)
    assert cut.objective.reduction == "sum" and "seen to be a sum" in cut.notes[0]
    assert gap(cut.evaluate(theta).rate, full.evaluate(theta).rate) < TIGHT
    LossField(net, root, (x, y))  # one batch: anything goes
    with pytest.raises(FieldError, match=r"it is no mean over examples.*one batch"):
        LossField(net, root, (x, y), microbatch=5)
    with pytest.raises(FieldError, match="it is no mean over examples"):
        LossField(net, total, (x, y), microbatch=5, reduction="mean")
    with pytest.raises(FieldError, match="reduction='sum' was asked for, but MSELoss has reduction='mean'"):
        LossField(net, nn.MSELoss(), (x, y), reduction="sum")


class Two(nn.Module):
    """Takes two inputs, gives two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, left, right):
        return self.a(left) + self.b(right), self.b(right)


def test_inputs_may_be_tuples_and_dicts_and_outputs_too():
    torch.manual_seed(0)
    net = Two().double()
    (left, y), (right, _) = data(23), data(23, 2, seed=2)

    def loss(out, y):
        return F.mse_loss(out[0], y) + out[1].square().mean()

    a = LossField(net, loss, ((left, right), y), microbatch=10)
    b = LossField(net, loss, ({"right": right, "left": left}, y))
    c = LossField(net, loss, [((left[:4], right[:4]), y[:4]), ((left[4:], right[4:]), y[4:])])
    theta = scattered(a, 1)
    want = b.evaluate(theta).rate
    assert off((a.evaluate(theta).rate, want), (c.evaluate(theta).rate, want)) < TIGHT
    assert a.outputs(theta[0]).shape == (23, 4)
    assert gap(a.outputs(theta[0]), b.outputs(theta[0])) < TIGHT


# ── parameters ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_shared_weights_move_once_and_get_both_gradients():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)))

    torch.manual_seed(0)
    net, (x, y) = Tied().double(), data(23, 3, 3)
    field = LossField(net, F.mse_loss, (x, y))
    assert field.size == 9 and list(field.parameters(field.start())) == ["a.weight"]
    assert torch.equal(field.evaluate(field.start()[None]).rate[0], -plain(net, F.mse_loss, x, y)[1])
    rows = scattered(field, 3)
    assert gap(field.evaluate(rows).rate[1], field.evaluate(rows[1:2]).rate[0]) < TIGHT
    untied = Tied()
    untied.b.weight = nn.Parameter(net.a.weight.detach().clone())
    parts = LossField(untied.double(), F.mse_loss, (x, y)).evaluate(field.start().repeat(2)[None]).rate[0]
    assert gap(parts[:9] + parts[9:], field.evaluate(field.start()[None]).rate[0]) < TIGHT
    assert gap(parts[:9], field.evaluate(field.start()[None]).rate[0]) > 1e-2
    net.load_state_dict(field.parameters(2 * field.start()), strict=False)
    assert net.b.weight is net.a.weight and torch.equal(net.b.weight.reshape(-1), field.start())


def test_frozen_and_unnamed_parameters_are_held():
    net, (x, y) = mlp(3, 4, 2), data()
    net[0].weight.requires_grad_(False)
    field = LossField(net, F.mse_loss, (x, y))
    assert field.space.names == ("0.bias", "2.weight", "2.bias")
    assert torch.equal(field.evaluate(field.start()[None]).rate[0], -plain(net, F.mse_loss, x, y)[1])
    one = LossField(net, F.mse_loss, (x, y), names=["2.bias"])
    assert torch.equal(one.evaluate(one.start()[None]).rate[0], field.evaluate(field.start()[None]).rate[0, -2:])
    rows = scattered(one, 3)
    assert gap(one.evaluate(rows).rate[2], one.evaluate(rows[2:]).rate[0]) < TIGHT


def test_parameters_of_several_dtypes():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.high = nn.Linear(3, 4), nn.Linear(4, 2).double()

        def forward(self, x):
            return self.high(torch.tanh(self.low(x)).double())

    torch.manual_seed(0)
    net = Mixed()
    x, y = data()[0].float(), data()[1]
    field = LossField(net, F.mse_loss, (x, y))
    assert field.dtype == torch.float64
    value, slopes = F.mse_loss(net(x), y), None
    slopes = torch.cat([g.double().reshape(-1) for g in torch.autograd.grad(value, list(net.parameters()))])
    at = field.evaluate(field.start()[None])
    assert at.rate.dtype == torch.float64 and torch.equal(at.rate[0], -slopes)
    assert {n: t.dtype for n, t in field.parameters(field.start()).items()}["low.weight"] == torch.float32
    rows = scattered(field, 3)
    assert gap(field.evaluate(rows).rate[1], field.evaluate(rows[1:2]).rate[0]) < 1e-6
    v = torch.randn(1, field.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = LossField(twin(net).double(), lambda o, y: F.mse_loss(o, y), (x.double(), y))
    assert gap(field.linearize(rows[:1])(v), whole.linearize(rows[:1])(v)) < 1e-5
    assert gap(field.linearize(rows)(v.expand(3, -1)), whole.linearize(rows)(v.expand(3, -1))) < 1e-5


def test_points_in_another_dtype_get_rates_of_their_own():
    field = LossField(mlp(3, 4, 2), F.mse_loss, data(), weight_decay=0.1)
    for theta in (field.start()[None].float(), scattered(field, 2).float()):
        at = field.evaluate(theta)
        assert at.rate.dtype == at.value.dtype == torch.float32 == field.linearize(theta)(theta).dtype
        assert gap(at.rate.double(), field.evaluate(theta.double()).rate) < 1e-6


def test_a_function_of_a_dict_is_a_model_too():
    (x, y), net = data(), mlp(3, 4, 2)
    params = {k: p.detach().clone() for k, p in net.named_parameters()}

    def model(p, x):
        return torch.tanh(x @ p["0.weight"].T + p["0.bias"]) @ p["2.weight"].T + p["2.bias"]

    field, want = LossField(model, F.mse_loss, (x, y), params=params), LossField(net, F.mse_loss, (x, y))
    theta = scattered(want, 3)
    assert (
        off(
            (field.evaluate(theta).rate, want.evaluate(theta).rate),
            (field.evaluate(theta[:1]).rate, want.evaluate(theta[:1]).rate),
            (field.linearize(theta)(theta), want.linearize(theta)(theta)),
        )
        < TIGHT
    )
    held = LossField(model, F.mse_loss, (x, y), params=params, names=["2.bias"])
    assert torch.equal(held.evaluate(held.start()[None]).rate[0], want.evaluate(want.start()[None]).rate[0, -2:])
    field.write(theta[0])
    assert torch.equal(params["2.bias"], theta[0, -2:])
    with pytest.raises(FieldError, match=r"'model' is a function: its parameters are missing.*params="):
        LossField(model, F.mse_loss, (x, y))


def test_a_loss_that_reads_the_parameters_sees_those_at_theta():
    net, (x, y) = mlp(3, 4, 2), data()

    def ridge(out, y):
        return F.mse_loss(out, y) + 0.15 * sum(p.square().sum() for p in net.parameters())

    field, want = LossField(net, ridge, (x, y)), LossField(net, F.mse_loss, (x, y), weight_decay=0.3)
    for theta in (scattered(field, 1), scattered(field, 3)):
        assert off(
            (field.evaluate(theta).rate, want.evaluate(theta).rate), (field.value(theta), want.value(theta)),
            (field.linearize(theta)(theta), want.linearize(theta)(theta)),
        ) < TIGHT  # fmt: skip


# ── many drops ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("chunk", [None, 1, 2, 7])
@pytest.mark.parametrize("microbatch", [None, 10])
def test_rows_are_the_singles(chunk, microbatch):
    field = LossField(mlp(3, 4, 2), F.mse_loss, data(), chunk=chunk, microbatch=microbatch)
    theta = scattered(field, 5)
    v = torch.randn(theta.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    at, product = field.evaluate(theta), field.linearize(theta)
    for i in range(5):
        one = field.evaluate(theta[i : i + 1])
        assert (
            off((at.rate[i], one.rate[0]), (field.value(theta)[i], one.value[0]), (at.value[i], one.value[0])) < TIGHT
        )
        assert gap(product(v)[i], field.linearize(theta[i : i + 1])(v[i : i + 1])[0]) < TIGHT
    assert gap(at.rate[0], at.rate[1]) > 1e-3
    assert field.notes == []


def test_a_module_that_cannot_be_vectorised_is_taken_row_by_row_and_that_is_said_once():
    class Branch(nn.Module):
        def forward(self, x):
            return x if float(x.detach().sum()) > 1e9 else x * 2  # looks at numbers: vmap cannot

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Branch(), nn.Linear(4, 2)).double()
    field = LossField(net, F.mse_loss, data())
    theta = scattered(field, 3)
    product = field.linearize(theta)(theta)  # before anything else was asked for
    at = field.evaluate(theta)
    assert gap(field.value(theta), at.value) < TIGHT
    assert gap(at.rate[1], field.evaluate(theta[1:2]).rate[0]) < TIGHT
    assert gap(product[1], field.linearize(theta[1:2])(theta[1:2])[0]) < TIGHT
    assert len(field.notes) == 1 and "one by one" in field.notes[0]


def test_the_size_of_groups_follows_the_memory_of_activations():
    small = LossField(mlp(3, 4, 2), F.mse_loss, data())
    large = LossField(mlp(3, 512, 2), F.mse_loss, data(2000))
    for field in (small, large):
        field.evaluate(scattered(field, 2))
    assert small.gradients.chunk > 1000 > large.gradients.chunk >= 1


# ── models of all kinds ──────────────────────────────────────────────────────────────────────────────────────────────


def fd_gap(field, theta, wrong=0.0):
    v = torch.randn(theta.shape, dtype=theta.dtype, generator=torch.Generator().manual_seed(2))
    v = v / v.norm()
    e = 1e-5
    truth = (field.evaluate(theta + e * v).rate - field.evaluate(theta - e * v).rate) / (2 * e)
    return gap((1 + wrong) * field.linearize(theta)(v), truth)


class Attention(nn.Module):
    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.mix, self.out, self.need = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 2), need_weights

    def forward(self, x):
        return self.out(self.mix(x, x, x, need_weights=self.need)[0].mean(1))


def encoder():
    return nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True),
        nn.Flatten(),
        nn.Linear(40, 2),
    )


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.core, self.out = kind(8, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.core(x)[0][:, -1])


def conv():
    return nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.Conv2d(1, 3, 3, padding=1), nn.GroupNorm(1, 3), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 2)
    )  # fmt: skip


KINDS = {
    "attention": lambda: Attention(False), "attention with weights": lambda: Attention(True), "encoder": encoder,
    "encoder eval": lambda: encoder().eval(), "lstm": lambda: Recurrent(nn.LSTM), "gru": lambda: Recurrent(nn.GRU),
    "conv": conv, "weight norm": lambda: nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(40, 2))),
    "in place": lambda: nn.Sequential(nn.Flatten(), nn.Linear(40, 4), nn.ELU(inplace=True), nn.Linear(4, 2)),
    "batch norm eval": lambda: nn.Sequential(nn.Flatten(), nn.Linear(40, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).eval(),
    "batch norm": lambda: nn.Sequential(nn.Flatten(), nn.Linear(40, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)),
    "spectral norm": lambda: nn.Sequential(nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(40, 2))).eval(),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_all_kinds_have_two_derivatives_and_are_left_as_they_were(kind):
    torch.manual_seed(0)
    net = KINDS[kind]().double()
    maker = torch.Generator().manual_seed(4)
    x, y = (torch.randn(6, *shape, generator=maker, dtype=torch.float64) for shape in ((5, 8), (2,)))
    for p in net.parameters():
        p.grad = torch.full_like(p, 7.0)
    before = fingerprint(net)
    field = LossField(net, F.mse_loss, (x, y))
    want = F.mse_loss(twin(net)(x), y)
    theta = field.start()[None]
    assert abs(float(field.value(theta) - want.detach())) < 1e-12 and torch.equal(
        field.value(theta), field.evaluate(theta).value
    )
    assert fd_gap(field, theta) < 1e-7 < fd_gap(field, theta, wrong=1e-3)
    rows = scattered(field, 3, by=0.03)
    assert gap(field.evaluate(rows).rate[1], field.evaluate(rows[1:2]).rate[0]) < 1e-11
    assert gap(field.linearize(rows)(rows)[1], field.linearize(rows[1:2])(rows[1:2])[0]) < 1e-11
    field.outputs(theta[0])
    assert unchanged(before, fingerprint(net))


def test_the_check_of_an_untouched_model_can_fail():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    before = fingerprint(net)
    net(data()[0])  # an ordinary call in train mode moves the running statistics
    assert not unchanged(before, fingerprint(net))


def test_loaders_draw_no_random_numbers_of_the_user():
    x, y = data()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=10)
    field = LossField(mlp(3, 4, 2), F.mse_loss, loader)
    before = torch.get_rng_state()
    field.evaluate(field.start()[None]), field.linearize(field.start()[None])(field.start()[None])
    assert torch.equal(before, torch.get_rng_state())
    iter(loader)
    assert not torch.equal(before, torch.get_rng_state())  # a bare pass does draw


# ── points ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_points_go_into_the_model_and_come_out_of_it():
    net, (x, y) = mlp(3, 4, 2), data()
    field = LossField(net, F.mse_loss, (x, y), microbatch=10)
    theta = scattered(field, 1)[0]
    assert not torch.equal(field.start(), theta)
    assert gap(field.outputs(theta), torch.func.functional_call(net, field.parameters(theta), (x,))) < TIGHT
    missing = net.load_state_dict(field.parameters(theta), strict=False)
    assert not missing.unexpected_keys and torch.equal(field.start(), theta)
    field.write(0 * theta)
    assert not bool(field.start().any())
    field.start().add_(1.0)
    assert not bool(field.start().any())  # a copy


def test_evaluations_leave_theta_and_earlier_results_as_they_are():
    field = LossField(mlp(3, 4, 2), F.mse_loss, data())
    theta = scattered(field, 2)
    for rows in (theta[:1].clone(), theta.clone()):
        before = rows.clone()
        first = field.evaluate(rows)
        kept = first.rate.clone(), first.value.clone()
        product = field.linearize(rows)
        bend = product(rows).clone()
        field.evaluate(rows + 1.0).rate.add_(5.0), product(rows).mul_(3.0)
        assert torch.equal(rows, before) and torch.equal(first.rate, kept[0]) and torch.equal(first.value, kept[1])
        assert torch.equal(product(rows), bend)


def test_no_rows_give_no_rows_and_a_bare_point_is_told():
    field = LossField(mlp(3, 4, 2), F.mse_loss, data())
    none = torch.zeros(0, field.size, dtype=torch.float64)
    at = field.evaluate(none)
    assert at.rate.shape == none.shape == field.linearize(none)(none).shape and at.value.shape == field.value(
        none
    ).shape == (0,)
    with pytest.raises(
        FieldError, match=r"got points of shape \(26,\); expected rows, \(B, 26\)\. One point is theta\[None\]"
    ):
        field.evaluate(field.start())
    for theta in (torch.zeros(1, 5), torch.zeros(3, 5)):
        with pytest.raises(FieldError, match="a point of 5 numbers"):
            field.evaluate(theta)


def no_second_derivative(op):
    """What PyTorch says where it cannot differentiate an operation twice; "" where it can, which depends on the release."""
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(op(x).square().sum(), x, create_graph=True)
    try:
        torch.autograd.grad(slope.square().sum(), x)
    except RuntimeError as problem:
        return str(problem).splitlines()[0]
    return ""


@pytest.mark.parametrize(
    "op",
    [
        lambda x: torch.cdist(x, x.flip(0) + 1.0)[:, :2],  # can be since PyTorch 2.14
        lambda x: F.multi_margin_loss(x, torch.arange(len(x)) % 3, p=2) * x[:, :2],  # cannot
        lambda x: torch.stack([x.norm(dim=1), (x - 1).norm(dim=1)], 1),  # always could
    ],
    ids=["cdist", "margin", "norm"],
)
def test_where_pytorch_has_no_second_derivative_products_are_differences_and_that_is_said(op, request):
    class Far(nn.Module):
        def forward(self, x):
            return op(x[:, :3])

    torch.manual_seed(0)
    field = LossField(nn.Sequential(nn.Linear(3, 4), Far()).double(), F.mse_loss, data(), weight_decay=0.1)
    theta = scattered(field, 1)
    assert fd_gap(field, theta) < 1e-6 < fd_gap(field, theta, wrong=1e-3)
    why, name = no_second_derivative(op), request.node.callspec.id
    assert bool(why) == {"margin": True, "norm": False}.get(name, bool(why))
    said = [n for n in field.notes if "Hessian products are differences of gradients" in n]
    assert len(said) == bool(why) and all(why.removeprefix("the ") in n for n in said)
    rows = scattered(field, 3)
    assert gap(field.linearize(rows)(rows)[1], field.linearize(rows[1:2])(rows[1:2])[0]) < 1e-6


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class OnceOnly:
    """Can be gone through once, and does not say so."""

    def __init__(self, batches):
        self.left = iter(batches)

    def __iter__(self):
        yield from self.left


def raises(words, model=None, loss=F.mse_loss, d=None, **settings):
    with pytest.raises(FieldError, match=words):
        LossField(model or mlp(3, 4, 2), loss, data() if d is None else d, **settings)


def test_data_that_is_no_data_is_refused():
    x, y = data()
    with pytest.raises(FieldError, match=r"there is no data.*DataLoader with shuffle=False"):
        LossField(mlp(3, 4, 2), F.mse_loss, None)
    raises("data is empty", d=[])
    raises("gone through only once.*list\\(data\\)", d=iter([(x, y)]))
    raises("gone through only once", d=((x, y) for _ in range(3)))
    raises("gave 1 batches at the first pass and 0 at a later one", d=OnceOnly([(x, y)]))
    raises("a tuple of 3; expected two", d=(x, y, y))
    raises("list of two tensors", d=[x, y])
    raises("a tensor of shape \\(23, 3\\)", d=x)
    raises("batch 0 of data is a dict with 'x', 'y'; expected a pair", d=[{"x": x, "y": y}])
    raises("batch 1 of data is a tensor of shape", d=[(x, y), x])
    raises("Write a list", d=((x, y), (x, y)))
    raises("gives single examples.*DataLoader\\(dataset", d=torch.utils.data.TensorDataset(x, y))
    raises("has no example", d=[(x, y), (x[:0], y[:0])])
    raises("microbatch must be a whole number", microbatch=0)
    raises("microbatch cuts both along their first dimension", d=(x, y[:5]), microbatch=2)


def test_models_and_losses_that_are_none_are_refused():
    x, y = data()
    raises("the model is int", model=3)
    raises("the loss is str; expected a function", loss="mse")
    raises(r'reduction="none".*reduction="mean" or reduction="sum"', loss=nn.MSELoss(reduction="none"))
    raises(r"loss returned a tensor of shape \(23, 2\).*\.mean\(\)", loss=lambda out, y: (out - y) ** 2)
    raises("returned float; expected a scalar tensor", loss=lambda out, y: float((out - y).sum().detach()))
    raises("does not depend on the parameters", loss=lambda out, y: (out.detach() - y).square().mean())
    raises(
        r"failed on a batch: RuntimeError.*input is \(23, 3\) torch.float32.*parameters torch.float64", d=(x.float(), y)
    )
    raises("goes with a model that is a function", params={})
    raises("weight_decay must be 0 or more", weight_decay=-1.0)
    raises("chunk must be", chunk=0)
    raises("accumulate must be a floating dtype", accumulate=torch.int64)
    raises('reduction must be "mean" or "sum"', reduction="average")
    raises("no parameter 'head'", names=["head"])


def test_a_loss_that_is_not_finite_at_the_start_is_traced():
    x, y = data()
    broken = mlp(3, 4, 2)
    with torch.no_grad():
        broken[2].bias[0] = float("nan")
    raises("loss at the start is nan.*parameter '2.bias' is not finite", model=broken)
    raises("The input holds numbers", d=(x.where(x < 1, torch.inf), y))
    raises("The target holds numbers", d=(x, y.where(y < 1, torch.nan)))
    raises("takes the logarithm or the root", loss=lambda out, y: out.sum() * 0 - (out * 0).log().sum())
    raises("model's output is not finite", model=nn.Sequential(mlp(3, 4, 2), nn.Threshold(1e9, float("inf"))))


def test_parameters_without_influence_are_noted():
    net = mlp(3, 4, 2)
    net.spare = nn.Linear(2, 2).double()
    net.forward = lambda x: net[2](net[1](net[0](x)))
    field = LossField(net, F.mse_loss, data())
    assert any("does not depend on spare.weight, spare.bias" in note for note in field.notes)
    assert not field.evaluate(field.start()[None]).rate[0, -6:].any()
    assert LossField(mlp(3, 4, 2), F.mse_loss, data()).notes == []


# ── conserved quantities ─────────────────────────────────────────────────────────────────────────────────────────────


def drift(field, t=0.02, steps=40):
    """How far the laws move on a path by RK4, relative to how far the weights do."""
    theta = field.start()[None]
    begin, first = theta.clone(), field.conserved(theta)
    h = t / steps
    for _ in range(steps):
        k1 = field.evaluate(theta).rate
        k2 = field.evaluate(theta + 0.5 * h * k1).rate
        k3 = field.evaluate(theta + 0.5 * h * k2).rate
        k4 = field.evaluate(theta + h * k3).rate
        theta = theta + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    last = field.conserved(theta)
    return {name: float((last[name] - first[name]).norm() / (theta - begin).norm()) for name in first}


def lawful():
    yield "linear", mlp(3, 5, 4, 2, act=nn.Identity, bias=False), ["balance 0–2", "balance 2–4"], 25
    yield "linear with bias", mlp(3, 5, 2, act=nn.Identity), ["balance 0–2"], 25
    yield "relu", mlp(3, 5, 4, 2, act=nn.ReLU), ["balance 0–2", "balance 2–4"], 5
    yield "leaky", mlp(3, 5, 2, act=nn.LeakyReLU, bias=False), ["balance 0–2"], 5


@pytest.mark.parametrize(("net", "names", "count"), [pytest.param(*rest, id=name) for name, *rest in lawful()])
def test_conserved_quantities_hold_along_the_flow_and_are_those_of_the_formulas(net, names, count):
    x, y = data(40)
    field = LossField(net, F.mse_loss, (x, y))
    kept = field.conserved(scattered(field, 3))
    assert list(kept) == names and kept[names[0]].shape == (3, count)
    assert all(d < 1e-9 for d in drift(field).values())
    p = field.parameters(field.start())
    a = torch.cat([p["0.weight"], p["0.bias"][:, None]], 1) if "0.bias" in p else p["0.weight"]
    b = p["2.weight"]
    want = b.T @ b - a @ a.T if count == 25 else a.square().sum(1) - b.square().sum(0)
    assert gap(field.conserved(field.start()[None])[names[0]][0], want.reshape(-1)) < TIGHT


def test_the_check_of_laws_can_fail():
    net = mlp(3, 5, 2, act=nn.ReLU)
    field = LossField(net, F.mse_loss, data(40))
    field.conserved(field.start()[None])
    field.weight_decay = 0.5  # behind its back: the laws no longer hold
    assert max(drift(field).values()) > 1e-2


def test_convolutions_balance_by_channel():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8, 2),
    ).double()  # fmt: skip
    field = LossField(net, F.mse_loss, data(20, 16))
    assert {k: v.shape for k, v in field.conserved(field.start()[None]).items()} == {
        "balance 1–4": (1, 3),
        "balance 4–7": (1, 2),
    }
    assert max(drift(field).values()) < 1e-8


def test_no_law_is_reported_where_there_is_none():
    d = data(40)
    hooked = mlp(3, 5, 2, act=nn.ReLU)
    hooked[1].register_forward_hook(lambda m, i, o: o.square())
    outside = nn.ModuleDict({"net": mlp(3, 5, 2, act=nn.ReLU)})
    outside.forward = lambda x: outside["net"](x) + outside["net"][0](x)[:, :2]  # the first layer is used elsewhere too
    shared = nn.Linear(3, 3, bias=False).double()
    frozen = mlp(3, 5, 2, act=nn.ReLU)
    frozen[0].bias.requires_grad_(False)
    for net in (
        mlp(3, 5, 2), mlp(3, 5, 2, act=nn.GELU), mlp(3, 5, 2, act=nn.ReLU6), hooked, outside, frozen,
        nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(3, 2).double()),
    ):  # fmt: skip
        laws = LossField(net, F.mse_loss, d).conserved(LossField(net, F.mse_loss, d).start()[None])
        assert laws == {}
    assert LossField(mlp(3, 5, 2, act=nn.ReLU), F.mse_loss, d, weight_decay=0.1).conserved(torch.zeros(1, 32)) == {}


# ── compiled ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_compiled_is_the_same_to_round_off():
    net, (x, y) = mlp(3, 5, 2), data()

    def loss(out, y):
        return F.mse_loss(out, y) + net[0].weight.square().sum()

    field, want = LossField(net, loss, (x, y), compile=True), LossField(net, loss, (x, y))
    theta = scattered(want, 2)
    assert gap(field.evaluate(theta[:1]).rate, want.evaluate(theta[:1]).rate) < TIGHT
    assert gap(field.evaluate(theta).rate, want.evaluate(theta).rate) < TIGHT
    assert gap(field.linearize(theta[:1])(theta[:1]), want.linearize(theta[:1])(theta[:1])) < TIGHT
