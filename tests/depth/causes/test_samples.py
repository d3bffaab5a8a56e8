"""Samples that get mixed up, on real little runs: told at their line, and silence on the twins that only look like it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradientflow.depth.causes import judge
from gradientflow.records import Verdict
from tests.depth.causes.test_rules_on_live_runs import here, top
from tests.truth.watching import watched

STEPS = 5


def verdict_of(train: Callable[[], None]) -> Verdict:
    with watched(1) as run:
        train()
    files = {op.file for p in run.probes for op in p.ops if op.file and Path(op.file).is_file()}
    run.meta.sources |= {f: Path(f).read_text(encoding="utf-8") for f in files}
    found = judge(run)
    assert found.watch.errors == []
    return found


def fit(net: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor, steps: int = STEPS) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(net(x)).backward()
        optimizer.step()


def mixed(verdict: Verdict) -> bool:
    return "mixed-samples" in {f.cause for f in verdict.findings}


# ── pairs by broadcasting ────────────────────────────────────────────────────────────────────────────────────────────


def mlp(out: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, out))


X = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))
Y = X[:, 0] * 2 + X[:, 1]


def mse(p: Tensor) -> Tensor:
    return F.mse_loss(p, Y)  # HERE


def absolute(p: Tensor) -> Tensor:
    return (Y - p).abs().mean()  # HERE


def relative(p: Tensor) -> Tensor:
    return ((p / (Y + 9.0) - 1) ** 2).mean()  # HERE


def column(p: Tensor) -> Tensor:
    return F.smooth_l1_loss(p.squeeze(1), Y[:, None])  # HERE


def by_hand(p: Tensor) -> Tensor:
    wanted = (Y > 0).float()
    p = p.sigmoid()
    return -(wanted * p.log()).mean() - ((1 - wanted) * (1 - p).log()).mean()  # HERE


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("loss", [mse, absolute, relative, column, by_hand], ids=lambda f: f.__name__)
def test_a_column_against_a_row_is_told_with_both_shapes(loss: Callable[[Tensor], Tensor]) -> None:
    found = top(verdict_of(lambda: fit(mlp(), loss, X)), "crawling", "mixed-samples", here(loss))
    assert sorted([found.evidence["answer_shape"], found.evidence["target_shape"]], key=len) == [[24], [24, 1]]
    assert found.evidence["pairs"] == 576


def same(p: Tensor) -> Tensor:
    return F.mse_loss(p.squeeze(1), Y)


def all_alike(p: Tensor) -> Tensor:
    return F.mse_loss(p.squeeze(1), torch.ones(24, 1))  # (a discriminator's labels: pairs of equals)


def ranking(p: Tensor) -> Tensor:
    s = p.squeeze(1)
    further = s.unsqueeze(1) - s
    return F.softplus(-further[(Y[:, None] > Y[None, :])]).mean()


def energy_distance(p: Tensor) -> Tensor:
    s = p.squeeze(1)
    return (s[:, None] - Y).abs().mean() - 0.5 * (s[:, None] - s).abs().mean()


def on_two_lines(p: Tensor) -> Tensor:
    rows = p.squeeze(1).unsqueeze(1)
    return (rows - Y).abs().mean()


def between_each_other(p: Tensor) -> Tensor:
    s, wanted = p.squeeze(1), Y[:, None]
    among = s[:, None] - s
    return (s - wanted).abs().mean() - 0.5 * among.abs().mean()


def centres(p: Tensor) -> Tensor:
    return ((p - torch.linspace(-2, 2, 7)) ** 2).min(dim=1).values.mean()  # (24, 1) against (7,): its own meaning


def quantiles(p: Tensor) -> Tensor:
    return F.smooth_l1_loss(p.unsqueeze(1).expand(24, 4, 4), Y[:, None, None].expand(24, 4, 4))


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("loss", "out"),
    [
        (same, 1),
        (all_alike, 1),
        (ranking, 1),
        (energy_distance, 1),
        (on_two_lines, 1),
        (between_each_other, 1),
        (centres, 1),
        (quantiles, 4),
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)
def test_pairs_that_are_meant_or_do_no_harm_are_not_told(loss: Callable[[Tensor], Tensor], out: int) -> None:
    assert not mixed(verdict_of(lambda: fit(mlp(out), loss, X)))


# ── one sample's output and the others ───────────────────────────────────────────────────────────────────────────────

TOKENS = torch.randint(0, 11, (20, 7), generator=torch.Generator().manual_seed(2))
CLASSES = TOKENS[:, 0] % 3


def classes(p: Tensor) -> Tensor:
    return F.cross_entropy(p, CLASSES)


class Reader(nn.Module):
    """Tokens to one of three classes, in several right and wrong ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.embed = nn.Embedding(11, 8)
        self.out = nn.Linear(8 * 7 if "cut" in how else 8, 3)
        first = "right" in how
        if "lstm" in how:
            self.middle: nn.Module = nn.LSTM(8, 8, batch_first=first)  # HERE-lstm
        elif "attention" in how:
            self.middle = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=first)
        elif "norm" in how:
            self.middle = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        if "lstm" in self.how:
            return self.out(self.middle(h)[0][:, -1])
        if "attention" in self.how:
            return self.out(self.middle(h).mean(1))  # HERE-attention
        if "norm" in self.how:
            return self.out(self.middle(h.mean(1)))
        if self.how == "cut":
            return self.out(h.transpose(0, 1).reshape(20, -1))  # HERE-cut
        if self.how == "right cut":
            return self.out(h.reshape(20, -1))
        if self.how == "over the batch":
            return F.softmax(self.out(h.mean(1)), dim=0)  # HERE-over the batch
        return self.out(h.mean(1))


def lines(how: str) -> set[int]:
    text, first = inspect.getsourcelines(Reader)
    return {first + i for i, line in enumerate(text) if f"# HERE-{how}" in line}


@pytest.mark.parametrize("how", ["lstm", "attention", "cut", "over the batch"])
def test_a_batch_axis_that_is_taken_for_another_is_told(how: str) -> None:
    verdict = verdict_of(lambda: fit(Reader(how), classes, TOKENS))
    found = next(f for f in verdict.findings if f.cause == "mixed-samples")
    assert found is verdict.findings[0]
    assert found.evidence["share_outside_the_sample"] > 0.01 and found.evidence["samples"] == 20
    assert found.place is not None
    assert found.place.line in lines(how)


@pytest.mark.parametrize("how", ["right lstm", "right attention", "right cut", "norm", "plain"])
def test_samples_that_keep_to_themselves_are_not_told(how: str) -> None:
    assert not mixed(verdict_of(lambda: fit(Reader(how), classes, TOKENS)))


class Series(nn.Module):
    """Numbers over time, straight into a recurrence."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = first
        self.rnn, self.out = nn.GRU(4, 8, batch_first=first), nn.Linear(8, 1)  # HERE

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.rnn(x)
        return self.out(h[:, -1]).squeeze(1)


def test_a_recurrence_that_runs_from_sample_to_sample_is_told_from_shapes_alone() -> None:
    x = torch.randn(24, 9, 4, generator=torch.Generator().manual_seed(3))
    found = top(verdict_of(lambda: fit(Series(False), same_rows, x)), "crawling", "mixed-samples", here(Series))
    assert found.evidence["read_as_steps"] == 24 and found.evidence["read_as_batch"] == 9
    assert not mixed(verdict_of(lambda: fit(Series(True), same_rows, x)))


def same_rows(p: Tensor) -> Tensor:
    return F.mse_loss(p, Y)


class Stepwise(nn.Module):
    """Time first, as PyTorch has it, and an answer at every step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.rnn, self.out = nn.Linear(4, 8), nn.GRU(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.up(x))[0])


def test_time_first_is_no_mixing() -> None:
    x = torch.randn(9, 6, 4)
    assert not mixed(verdict_of(lambda: fit(Stepwise(), lambda p: F.mse_loss(p, torch.zeros(9, 6, 3)), x)))
    y = torch.zeros(54, dtype=torch.long)
    assert not mixed(verdict_of(lambda: fit(Stepwise(), lambda p: F.cross_entropy(p.reshape(54, 3), y), x)))
    assert not mixed(verdict_of(lambda: fit(Stepwise(), lambda p: F.cross_entropy(p[-1], y[:6]), x)))


class Neighbours(nn.Module):
    """Message passing: nodes are rows, and hang on their neighbours on purpose."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(5, 8), nn.Linear(8, 3)
        self.register_buffer("links", torch.rand(20, 20).softmax(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.links @ self.two(torch.relu(self.links @ self.one(x)))


def test_neighbours_similarities_and_statistics_are_there_for_mixing() -> None:
    x = torch.randn(20, 5)
    assert not mixed(verdict_of(lambda: fit(Neighbours(), classes, x)))

    def contrast(z: Tensor) -> Tensor:
        z = F.normalize(z, dim=1)
        return F.cross_entropy(z @ z.T.detach() / 0.2, torch.arange(20))

    assert not mixed(verdict_of(lambda: fit(nn.Linear(5, 6), contrast, x)))

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.one(x)
            return self.two((h - h.mean(0)) / (h.std(0) + 1e-3))

    assert not mixed(verdict_of(lambda: fit(Centred(), classes, x)))


class Film(nn.Module):
    """Frames are rows, and four in a row are one film: they are grouped on purpose."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.one, self.two = nn.Linear(5, 8), nn.Linear(8, 3)
        self.over = nn.LSTM(8, 8, batch_first=True) if how == "lstm" else nn.Conv1d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        films = self.one(x).view(5, 4, 8)
        if self.how == "lstm":
            films = self.over(films)[0]
        else:
            films = self.over(films.transpose(1, 2)).transpose(1, 2)
        return self.two(films.reshape(20, 8))


@pytest.mark.parametrize("how", ["lstm", "conv"])
def test_rows_that_are_grouped_on_purpose_are_not_told(how: str) -> None:
    assert not mixed(verdict_of(lambda: fit(Film(how), classes, torch.randn(20, 5))))


def test_a_ranking_of_the_whole_list_is_not_told_and_an_axis_cut_for_time_is() -> None:
    wanted = torch.rand(24).softmax(0)
    ranked = verdict_of(lambda: fit(mlp(), lambda p: -(wanted * p.squeeze(1).log_softmax(0)).sum(), X))
    assert not mixed(ranked)

    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.rnn, self.out = nn.Embedding(11, 8), nn.GRU(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x).view(7, 20, 8)  # HERE
            return self.out(self.rnn(h)[0][-1])

    top(verdict_of(lambda: fit(Cut(), classes, TOKENS)), "crawling", "mixed-samples", here(Cut))


class BothWays(nn.Module):
    """The last states of both directions, side by side or cut from memory."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.embed, self.out = nn.Embedding(11, 8), nn.Linear(12, 3)
        self.rnn = nn.LSTM(8, 6, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.rnn(self.embed(x))
        if self.how == "cut":
            return self.out(h.view(20, -1))  # HERE
        return self.out(torch.cat([h[0], h[1]], 1) if self.how == "side by side" else h.transpose(0, 1).reshape(20, -1))


def test_last_states_of_a_recurrence_that_are_cut_from_memory_are_told() -> None:
    found = top(verdict_of(lambda: fit(BothWays("cut"), classes, TOKENS)), "crawling", "mixed-samples", here(BothWays))
    assert found.evidence["operation"] == "view"
    for how in ("side by side", "transposed"):
        assert not mixed(verdict_of(lambda how=how: fit(BothWays(how), classes, TOKENS)))  # type: ignore[misc]


def test_masks_without_their_channel_are_told_and_a_loss_after_a_loss_is_looked_at() -> None:
    pictures, masks = torch.rand(6, 1, 8, 8), (torch.rand(6, 8, 8) > 0.5).float()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1), nn.Sigmoid())

    def dice(p: Tensor) -> Tensor:
        return 1 - 2 * (p * masks).sum() / (p.sum() + masks.sum())  # HERE

    def proper(p: Tensor) -> Tensor:
        return 1 - 2 * (p * masks.unsqueeze(1)).sum() / (p.sum() + masks.sum())

    top(verdict_of(lambda: fit(net, dice, pictures)), "crawling", "mixed-samples", here(dice))
    assert not mixed(verdict_of(lambda: fit(net, proper, pictures)))

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.actor, self.critic = nn.Linear(5, 3), nn.Linear(5, 1)

        def forward(self, x: Tensor) -> Tensor:
            wrong = (self.critic(x) - Y).pow(2).mean()  # HERE
            return wrong - self.actor(x).log_softmax(1)[:, 0].mean()

    found = next(f for f in verdict_of(lambda: fit(Twice(), lambda p: p, X)).findings if f.cause == "mixed-samples")
    assert found.place is not None and found.place.line in here(Twice)


def test_weights_over_the_batch_axis_are_told() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two, self.out = nn.Linear(5, 8), nn.Linear(20, 20), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.tanh(self.two(self.one(x).T)).T)

    assert mixed(verdict_of(lambda: fit(Turned(), classes, torch.randn(20, 5))))


def test_mixing_is_seen_behind_a_batch_normalisation() -> None:
    class Both(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.one, self.norm, self.two, self.dim = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 3), dim

        def forward(self, x: Tensor) -> Tensor:
            return F.log_softmax(self.two(self.norm(self.one(x))), dim=self.dim)  # HERE

    x = torch.randn(20, 5)
    loss = lambda p: F.nll_loss(p, CLASSES)  # noqa: E731
    top(verdict_of(lambda: fit(Both(0), loss, x)), "crawling", "mixed-samples", here(Both))
    assert not mixed(verdict_of(lambda: fit(Both(1), loss, x)))
