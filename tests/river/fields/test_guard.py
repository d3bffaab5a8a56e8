"""A flow of a random field is no flow: each cause is named, nothing is touched, and derivatives are held against differences."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from gradientflow.errors import FieldError, RandomFieldError
from gradientflow.river.fields.audit import audit
from gradientflow.river.fields.base import Potential, VectorField
from gradientflow.river.fields.guard import check_deterministic
from gradientflow.river.fields.kinks import third_error, third_warning
from gradientflow.river.fields.loss import LossField
from tests.river.fields.nets import F, data, fingerprint, mlp, unchanged


def refused(words, model, d=None, loss=F.mse_loss, kind=RandomFieldError, **settings):
    before = fingerprint(model)
    with pytest.raises(kind, match=words):
        LossField(model, loss, data() if d is None else d, **settings)
    assert unchanged(before, fingerprint(model))


def chain(*middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), *middle, nn.Linear(4, 2)).double()


# ── the model ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dropout_in_train_mode_is_refused_by_name_and_passes_in_eval_mode_or_with_p_0():
    net = chain(nn.Dropout(0.5), nn.Sequential(nn.AlphaDropout(0.1)))
    refused(
        r"Cause: dropout in train mode: '1' \(Dropout, p=0.5\), '2.0' \(AlphaDropout, p=0.1\)\. Call model\.eval\(\)",
        net,
    )
    assert LossField(net.eval(), F.mse_loss, data()).notes == []
    assert LossField(chain(nn.Dropout(0.0)), F.mse_loss, data()).notes == []


def test_dropout_inside_attention_and_recurrence_is_found():
    x, y = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(5, 2)
    encoder = nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), nn.Flatten(), nn.Linear(32, 2)
    )
    refused(r"'0.self_attn' \(MultiheadAttention, p=0.1\), '0.dropout' \(Dropout, p=0.1\)", encoder, (x, y))

    class Last(nn.Module):
        def forward(self, out):
            return out[0][:, -1]

    lstm = nn.Sequential(nn.LSTM(8, 4, num_layers=2, dropout=0.3, batch_first=True), Last(), nn.Linear(4, 2))
    refused(r"'0' \(LSTM, p=0.3\)", lstm, (x, y))


class Noise(nn.Module):
    def forward(self, x):
        return x + 1e-3 * torch.rand_like(x)


class Counter(nn.Module):
    """Keeps a state outside its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * (1 + 0.01 * self.calls)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(F.dropout(x, 0.5))  # in eval mode too


class PythonNoise(nn.Module):
    def forward(self, x):
        return x * random.random() * np.random.rand()


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (Noise(), r"module '1' \(Noise\) gives two answers to one input"),
        (nn.Sequential(nn.Tanh(), Counter()), r"module '1\.1' \(Counter\) gives two answers.*keeps a state"),
        (Functional(), r"module '1' \(Functional\)"),
        (PythonNoise(), r"module '1' \(PythonNoise\)"),
        (nn.RReLU(), r"module '1' \(RReLU\).*Call model\.eval\(\)"),
    ],
)
def test_the_innermost_random_module_is_found(middle, words):
    refused(words, chain(middle))


def test_dropout_that_is_not_alone_is_told_with_the_other():
    refused(r"'1' \(Dropout, p=0.5\).*not alone.*module '2' \(Noise\)", chain(nn.Dropout(0.5), Noise()))


def test_a_random_loss_and_a_random_backward_are_told_apart_from_the_model():
    refused(
        "Cause: the loss itself: every module repeats",
        chain(),
        loss=lambda out, y: F.mse_loss(out + torch.randn(()), y),
    )

    class Shaky(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * torch.rand(())

    refused("the losses agree and the gradients do not", chain(), loss=lambda out, y: F.mse_loss(Shaky.apply(out), y))


def test_a_fixed_seed_does_not_hide_randomness():
    net = chain(nn.Dropout(0.5))
    torch.manual_seed(0)
    field = LossField(net, F.mse_loss, data(), check=False)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        one = field.evaluate(field.start()[None]).value
        torch.manual_seed(0)
        two = field.evaluate(field.start()[None]).value
    assert torch.equal(one, two)  # whoever evaluates twice from one seed sees nothing
    with pytest.raises(RandomFieldError):
        check_deterministic(field)


def test_random_states_of_all_three_generators_stay():
    field = LossField(mlp(3, 4, 2), F.mse_loss, DataLoader(TensorDataset(*data()), batch_size=7))
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    check_deterministic(field)
    audit(field)
    assert random.getstate() == before[0] and (np.random.get_state()[1] == before[1]).all()
    assert torch.equal(torch.get_rng_state(), before[2])


# ── batch norm ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_batch_norm_in_train_mode_is_told_and_refused_where_data_are_cut():
    net = chain(nn.BatchNorm1d(4))
    x, y = data()
    before = fingerprint(net)
    field = LossField(net, F.mse_loss, (x, y))  # a fixed full batch: the statistics are those of the data
    assert field.notes == ["batch norm in train mode ('1') uses the statistics of the batch."]
    refused(
        r"microbatch=10 with batch norm in train mode \('1'\).*depends on how the data are cut.*model\.eval\(\)",
        net,
        kind=FieldError,
        microbatch=10,
    )
    cut = LossField(net, F.mse_loss, [(x[:10], y[:10]), (x[10:], y[10:])])
    assert "the loss depends on how the data are cut into batches" in cut.notes[0]
    theta = field.start()[None]
    assert abs(float(cut.value(theta) - field.value(theta))) > 1e-3  # and so it does
    assert unchanged(before, fingerprint(net))
    assert LossField(net.eval(), F.mse_loss, (x, y), microbatch=10).notes == []


def test_batch_norm_with_a_shuffling_loader_is_refused_with_both_words():
    loader = DataLoader(TensorDataset(*data()), batch_size=10, shuffle=True)
    refused(
        r"the loader shuffles \(RandomSampler\).*shuffle=False.*Batch norm in train mode \('1'\)",
        chain(nn.BatchNorm1d(4)),
        loader,
    )


# ── the data ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Augmented(Dataset):
    def __init__(self, x, y, noise=1e-6):
        self.x, self.y, self.noise = x, y, noise

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] + self.noise * torch.randn(3), self.y[i]


class Relabelled(Augmented):
    def __getitem__(self, i):
        return self.x[i], self.y[i] * random.choice([1.0, 0.9])


def test_shuffling_is_refused_also_with_a_generator_of_its_own():
    refused(
        r"shuffles \(RandomSampler\): the same examples come in another order",
        chain(),
        DataLoader(TensorDataset(*data()), batch_size=5, shuffle=True),
    )
    own = DataLoader(TensorDataset(*data()), batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(0))
    refused(r"shuffles \(RandomSampler\)", chain(), own)
    short = DataLoader(TensorDataset(*data()), batch_size=5, shuffle=True, drop_last=True)
    refused(r"leaves out other examples.*drop_last=False", chain(), short)
    assert LossField(chain(), F.mse_loss, DataLoader(TensorDataset(*data()), batch_size=5)).notes == []


def test_augmentation_is_refused_however_small_and_said_of_inputs_or_targets():
    x, y = data()
    refused(
        r"the inputs change from pass to pass: random augmentation in Augmented.*list\(loader\)",
        chain(),
        DataLoader(Augmented(x, y), batch_size=5),
    )
    refused(
        r"the targets change from pass to pass: random augmentation in Relabelled",
        chain(),
        DataLoader(Relabelled(x, y), batch_size=5),
    )
    loader = DataLoader(Augmented(x, y), batch_size=5)
    assert LossField(chain(), F.mse_loss, list(loader)).notes == []  # the mend that was named
    assert LossField(chain(), F.mse_loss, DataLoader(Augmented(x, y, noise=0.0), batch_size=5)).notes == []


# ── any field ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_plain_functions_are_looked_at_too_and_so_are_modules_they_hold():
    point = torch.ones(3, dtype=torch.float64)
    assert check_deterministic(Potential(lambda w: (w**2).sum()), point) == []
    with pytest.raises(RandomFieldError, match="the function itself draws random numbers"):
        check_deterministic(VectorField(lambda w: w + torch.rand(3)), point)
    noisy = nn.Dropout(0.5)
    with pytest.raises(RandomFieldError, match=r"dropout in train mode: '' \(Dropout, p=0.5\)"):
        check_deterministic(Potential(lambda w: noisy(w).sum()), point)
    with pytest.raises(FieldError, match="has no start of its own"):
        check_deterministic(Potential(lambda w: w.sum()))


def test_round_off_is_let_through_and_noted_and_a_little_more_is_not():
    calls = [0]

    def slightly(by, ordered=True):
        def loss(w):
            calls[0] += 1
            return (w**2).sum() * (1 + by * (calls[0] % 2) * (not ordered or torch.get_num_threads() > 1))

        return Potential(loss, start=[1.0, 2.0])

    before = torch.get_num_threads()
    torch.set_num_threads(2)  # of which the one or the other may be first
    try:
        (note,) = check_deterministic(slightly(1e-14))
        assert "not bit for bit" in note and "use_deterministic_algorithms" in note
        assert torch.get_num_threads() == 2  # as they were
        with pytest.raises(RandomFieldError):
            check_deterministic(slightly(1e-11))
        with pytest.raises(RandomFieldError):
            check_deterministic(slightly(1e-14, ordered=False))  # in one thread too: no matter of order
    finally:
        torch.set_num_threads(before)


def test_points_where_the_field_is_not_finite_are_refused_with_their_place():
    with pytest.raises(FieldError, match=r"loss of L\(θ\) at this point is nan"):
        check_deterministic(Potential(lambda w: w.log().sum(), start=[-1.0, 1.0]))

    class Length(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2, 4))

        def forward(self, x):
            return x * self.w.square().sum(1).sqrt().sum()

    words = r"not finite in 8 of 34 numbers, first in 1\.w\[0, 0\] \(nan\).*a root or a norm at zero"
    refused(words, chain(Length()), kind=FieldError)


def test_evaluations_that_change_theta_are_refused():
    class Clamped(VectorField):
        def evaluate(self, theta):
            theta.clamp_(-0.5, 0.5)
            return super().evaluate(theta)

    with pytest.raises(FieldError, match="changes the point it is evaluated at"):
        check_deterministic(Clamped(lambda w: -w), torch.ones(3))


# ── audit ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class WrongSlope(torch.autograd.Function):
    """tanh with a backward that is off by a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x.tanh()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return ctx.factor * g / x.cosh() ** 2, None


class Custom(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return WrongSlope.apply(x, self.factor)


def remarks(field, **settings):
    return {remark.name: remark for remark in audit(field, **settings)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_right_derivatives_are_found_right_in_both_dtypes(dtype):
    x, y = data(50, dtype=dtype)
    found = remarks(LossField(mlp(3, 16, 16, 2).to(dtype), F.mse_loss, (x, y)))
    assert set(found) == {"gradient", "Hessian"} and not any(r.warning for r in found.values())
    limit = 1e-7 if dtype == torch.float64 else 3e-2
    assert all(r.error < limit and r.doubt < limit and f"{r.error:.1e}" in str(r) for r in found.values())


@pytest.mark.parametrize("factor", [0.5, 1.05, -1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_wrong_backward_is_found(factor, seed):
    found = remarks(LossField(chain(Custom(factor)), F.mse_loss, data()), seed=seed)
    assert found["gradient"].warning and "torch.autograd.Function" in str(found["gradient"])
    assert found["gradient"].error > 0.1 * abs(factor - 1)
    right = remarks(LossField(chain(Custom(1.0)), F.mse_loss, data()), seed=seed)
    assert not right["gradient"].warning and not right["Hessian"].warning


def test_a_detached_part_shows_in_the_hessian_alone():
    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.tanh()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * (1 / x.cosh() ** 2).detach()  # right once, wrong twice

    class Module(nn.Module):
        def forward(self, x):
            return Straight.apply(x)

    found = remarks(LossField(chain(Module()), F.mse_loss, data()))
    assert not found["gradient"].warning and found["Hessian"].warning


def test_kinks_are_noted_without_crying_wolf():
    x, y = data(500)
    for act in (nn.ReLU, nn.LeakyReLU):
        for seed in range(3):
            found = remarks(LossField(mlp(3, 32, 32, 2, act=act), F.mse_loss, (x, y)), seed=seed)
            assert not any(r.warning for r in found.values()) and "kinks" in found
            assert ("ReLU" if act is nn.ReLU else "leaky ReLU") in str(found["kinks"])
    low = mlp(3, 32, 32, 2, act=nn.ReLU).float()
    assert not any(r.warning for r in audit(LossField(low, F.mse_loss, (x.float(), y.float()))))
    assert "kinks" not in remarks(LossField(mlp(3, 8, 2, act=nn.GELU), F.mse_loss, (x, y)))


def test_a_wrong_backward_is_found_beside_kinks():
    found = remarks(LossField(chain(nn.ReLU(), Custom(0.5)), F.mse_loss, data()))
    assert found["gradient"].warning


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        (lambda: nn.LayerNorm(4), r"layer norm \('1'\)"),
        (lambda: nn.BatchNorm1d(4), r"batch norm \('1'\)"),
        (lambda: nn.BatchNorm1d(4).eval(), None),
        (lambda: nn.GroupNorm(2, 4), None),
        (lambda: nn.RMSNorm(4), None),
        (lambda: nn.Tanh(), None),
    ],
)
def test_wrong_third_derivatives_are_told_with_the_modules(norm, kind):
    field = LossField(chain(norm()), F.mse_loss, data())
    found = remarks(field)
    wrong = kind is not None and third_error(kind[:10]) > 1e-3  # where PyTorch has mended it, there is nothing to tell
    if not wrong:
        assert "third derivatives" not in found and field.third_derivative_warning is None
    else:
        import re

        assert found["third derivatives"].warning and re.search(kind, str(found["third derivatives"]))
        assert re.search(kind, field.third_derivative_warning)
    assert not found["gradient"].warning and not found["Hessian"].warning


def test_layer_norm_called_as_a_function_is_seen_too():
    class Bare(nn.Module):
        def forward(self, x):
            return F.layer_norm(x, (4,))

    if third_error("layer norm") > 1e-3:
        assert "called as a function" in LossField(chain(Bare()), F.mse_loss, data()).third_derivative_warning
    assert third_error("group norm") < 1e-6  # the measurement itself can come out right


def test_third_derivatives_that_pytorch_refuses_are_told_as_that(monkeypatch):
    """As those through batch norm since 2.14; what fails for another reason is raised."""
    real = torch.autograd.grad

    def refusing(text):
        calls = itertools.count(1)

        def grad(*args, **more):
            if next(calls) == 7:  # twice two for the difference of second derivatives, and the third of the third
                raise RuntimeError(text)
            return real(*args, **more)

        third_error.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(torch.autograd, "grad", grad)
            return third_error("group norm"), third_warning({"group norm": ["1"]})

    try:
        error, said = refusing("group_norm does not support 3rd+ order derivatives.")
        assert error == math.inf and "through group norm ('1') are not to be had in PyTorch" in said
        with pytest.raises(RuntimeError, match="out of memory"):
            refusing("out of memory")
    finally:
        third_error.cache_clear()
    assert third_error("group norm") < 1e-6


def test_plain_potentials_and_vector_fields_are_audited():
    point = torch.tensor([0.3, -0.7], dtype=torch.float64)
    assert [r.name for r in audit(VectorField(lambda z: torch.stack([-z[1], z[0].sin()])), point)] == ["Jacobian"]
    bad = Potential(lambda w: (w**2).sum() + (w**3).sum().detach())
    assert remarks(bad, theta=point)["gradient"].warning
    assert "kinks" in remarks(Potential(lambda w: w.abs().sum()), theta=point)
    with pytest.raises(FieldError, match="has no start"):
        audit(bad)


@pytest.mark.parametrize("draw", [random.random, random.Random(1).random, lambda: float(torch.rand(()))])
def test_weak_noise_is_not_blamed_on_the_order_of_sums(draw):
    net = chain().float()
    x, y = (part.float() for part in data())
    refused(
        "two evaluations.*so there is no flow.*draws random numbers",
        net,
        (x, y),
        lambda o, t: F.mse_loss(o, t) * (1 + 1e-6 * draw()),
    )
    assert not LossField(net, lambda o, t: F.mse_loss(o, t) * (1 + 1e-6), (x, y)).notes  # control
