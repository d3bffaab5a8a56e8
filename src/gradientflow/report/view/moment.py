"""A run as it stood at one moment, and what is worked out of it for the screens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from gradientflow.errors import UsageError
from gradientflow.records import Budget, Probe, Run, Verdict

State = Literal["ended", "going", "silent"]
WayAt = Callable[[Run, Verdict, Probe], Budget]
KEPT = 64  # slices of one record that are kept
T = TypeVar("T")


@dataclass(frozen=True)
class Moment:
    """A run as it stood at one moment; nothing of it changes afterwards.

    Attributes:
        run: what was seen.
        verdict: what it means; of a run that still goes on perhaps of a moment before.
        way_at: makes the budget of one of the run's probes.
        looked_at: the probe that the verdict's budget was made from.
        version: grows with the record.
        state: "ended"; "going"; "silent": it was killed, or writes nothing for a while.
        judged: whether the verdict is one; otherwise it is still being worked out, and stands in for it.
        kept: what was worked out of this record and verdict and takes a while, by name.
    """

    run: Run
    verdict: Verdict
    way_at: WayAt
    looked_at: Probe | None
    version: int = 1
    state: State = "ended"
    judged: bool = True
    kept: dict[str, Any] = field(default_factory=dict)

    def probe(self, index: int) -> Probe:
        """Return a probe.

        Raises:
            UsageError: there is no such probe.
        """
        if not 0 <= index < len(self.run.probes):
            raise UsageError(f"probe {index}: this run has {len(self.run.probes)} of them, counted from 0.")
        return self.run.probes[index]

    def budget(self, index: int, own: int | None = None) -> Budget:
        """Return the budget of a probe, or of the verdict's one of its optimizers with that number.

        Raises:
            UsageError: there is no such probe, or no such optimizer.
        """
        probe = self.probe(index)
        if own is None:
            return self.once(f"budget {index}", lambda: self.way_at(self.run, self.verdict, probe))
        if not 0 <= own < len(self.verdict.optimizers):
            raise UsageError(
                f"optimizer {own}: the verdict knows {len(self.verdict.optimizers)} of them, counted from 0."
            )
        return self.verdict.optimizers[own].budget

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what was made by that name, or make it; only the last of them are kept."""
        if (known := self.kept.get(name)) is not None:
            return cast(T, known)
        made = self.kept[name] = make()
        for old in list(self.kept)[:-KEPT]:
            self.kept.pop(old, None)
        return made
