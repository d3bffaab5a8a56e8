"""A replay of one remedy beside what was replayed before."""

from __future__ import annotations

from gradientflow.depth.replay.adding import added
from gradientflow.records import NO_WIN, WIN, Change, Doubt, Outlook, Replay, Trial


def trial(*kinds: str, loss: float | None = 1.0, outcome: str = WIN, gone: bool = True, finding: int = 0) -> Trial:
    return Trial(
        [Change(k, k) for k in kinds], finding, outcome, "", after=Outlook(40, 2.0, loss, None, "healthy"), gone=gone
    )


def replay(*trials: Trial, best: int | None = 0, loss: float = 2.0, **named: object) -> Replay:
    return Replay(Outlook(40, 2.0, loss, None, "stalled"), list(trials), best, steps=40, seeds=1, seconds=5.0, **named)  # type: ignore[arg-type]


def kinds(found: Replay) -> list[str]:
    return ["+".join(c.kind for c in t.changes) for t in found.trials]


def test_a_remedy_that_is_tried_again_is_told_as_it_was_the_last_time() -> None:
    earlier = replay(trial("warmup", loss=0.5), trial("lower-step", loss=0.1), best=1)
    found = added(earlier, replay(trial("lower-step", loss=0.9)))
    assert kinds(found) == ["warmup", "lower-step"] and found.trials[1].after is not None
    assert found.trials[1].after.loss_last == 0.9 and found.best == 0 and found.seconds == 10.0


def test_the_best_of_both_is_best() -> None:
    earlier = replay(trial("warmup", loss=0.5))
    assert added(earlier, replay(trial("lower-step", loss=0.4))).best == 1
    assert added(earlier, replay(trial("lower-step", loss=0.6))).best == 0
    assert added(earlier, replay(trial("lower-step", loss=0.4, gone=False))).best == 0  # its symptom is still there
    assert added(earlier, replay(trial("lower-step", outcome=NO_WIN), best=None)).best == 0
    assert (
        added(replay(trial("a", outcome=NO_WIN), best=None), replay(trial("b", outcome=NO_WIN), best=None)).best is None
    )
    assert (
        added(earlier, replay(trial("warmup", "lower-step"))).trials[0] is earlier.trials[0]
    )  # together is another trial


def test_baselines_that_differ_are_not_put_side_by_side() -> None:
    now = replay(trial("lower-step"))
    found = added(replay(trial("warmup"), loss=2.5), now)
    assert kinds(found) == ["lower-step"] and "left out" in found.notes[0]
    assert added(None, now) is now and added(replay(best=None), now) is now


def test_a_cause_is_not_doubted_whose_remedy_helped_before() -> None:
    doubt = [Doubt(0, "rounding", 1, 0.9, 0.4)]
    failed = trial("clip-gradient", outcome=NO_WIN, gone=False)
    assert added(replay(trial("warmup")), replay(failed, best=None, doubts=doubt)).doubts == []
    other = added(replay(trial("warmup", finding=1)), replay(failed, best=None, doubts=doubt))
    assert [d.cause for d in other.doubts] == ["rounding"]
