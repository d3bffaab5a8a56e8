"""What a drop does: the path, what it cost, why it ended, and how far it can be trusted."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path as File
from typing import Any

import msgspec
import torch
from torch import Tensor

from gradientflow.errors import OutputError, RecordError, UsageError
from gradientflow.files import write
from gradientflow.records import Status
from gradientflow.river.fields.base import Field
from gradientflow.river.paths.still import of_paths

FORMAT = "gradientflow.path/1"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a path cost. Counts are rows: one gradient of one drop is one gradient.

    Attributes:
        gradients: evaluations of dθ/dt.
        hvps: Hessian-vector (for other fields Jacobian-vector) products; each costs about two gradients.
        losses: evaluations of the loss alone.
        seconds: wall-clock time of the whole run.
        inside: seconds of it spent inside the field's own evaluations.
        checking: gradient equivalents of all these that were spent on certificates.
        looking: gradient equivalents of all these that were spent on the sharpness, the solver's own looks among them.
    """

    gradients: int = 0
    hvps: int = 0
    losses: int = 0
    seconds: float = 0.0
    inside: float = 0.0
    checking: float = 0.0
    looking: float = 0.0

    @property
    def equivalents(self) -> float:
        """Gradient equivalents: gradients + 2 HVPs + ⅓ of the losses."""
        return self.gradients + 2 * self.hvps + self.losses / 3

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, n) + getattr(other, n) for n in Cost.__dataclass_fields__))


@dataclass(frozen=True, slots=True)
class Certificate:
    """One check that a path carries.

    Attributes:
        name: "monotone", "energy", "conserved …", "stability", "error", "residual".
        ok: True or False; None where it could not be made, and `text` says why.
        value: what was measured.
        bound: what it may be at most.
        text: a sentence that says what was compared with what.
    """

    name: str
    ok: bool | None
    value: float
    bound: float
    text: str

    def __str__(self) -> str:
        mark = {True: "✓", False: "✗ BROKEN", None: "–"}[self.ok]
        return f"{mark} {self.name}: {self.text}"


class Certificates(tuple[Certificate, ...]):
    """The checks of one path, by position or by name."""

    __slots__ = ()

    @property
    def ok(self) -> bool:
        """True where no check is broken, and, of those that were asked for, at least one could be made."""
        return not self or (not self.broken and any(c.ok for c in self))

    @property
    def broken(self) -> tuple[Certificate, ...]:
        """The checks that are broken."""
        return tuple(c for c in self if c.ok is False)

    @property
    def word(self) -> str:
        """The checks in half a line, as it is added to others: ", certificates hold", or which are broken; may be empty."""
        if not self:
            return ""
        if self.broken:
            return ", CERTIFICATE BROKEN: " + ", ".join(c.name for c in self.broken)
        return ", certificates hold" if self.ok else ", no certificate could be made"

    def named(self, name: str) -> Certificate:
        """Return the check of that name."""
        for c in self:
            if c.name == name:
                return c
        raise KeyError(f"no certificate named {name!r}; there are: {', '.join(c.name for c in self) or 'none'}")

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no certificates"


NOT_CHECKED = Certificates()


@dataclass
class Path:
    """The path of one drop: statistics along it, the end point, the cost, and the checks.

    Attributes:
        label: "flow", or the optimizer and its settings, as "SGD lr=0.1".
        kind: "flow" or "descent".
        method: the solver or optimizer; with ``auto``, those it used, in order.
        times: flow time of each kept moment, shape (n,), float64.
        loss: shape (n,), or None where the field has no loss.
        grad_norm: ‖dθ/dt‖ (for a loss field ‖∇L‖), shape (n,).
        sharpness: largest eigenvalue of the Hessian, shape (n,); NaN at moments where it was not measured. Without
            ``Keep(sharpness=k)`` it is measured at the start, at the end, and as often as that costs a small part.
        lambda_min: smallest eigenvalue as found beside it, an estimate from above, shape (n,).
        sharpness_bound: how near to each value an eigenvalue lies at least, from the residual, shape (n,); mostly it is far
            nearer.
        step: length in flow time of the step that led to each moment, shape (n,); 0 at the start.
        stages: gradient evaluations of that step, shape (n,), int64.
        loss_floor, grad_floor: what loss and ‖∇L‖ are resolved to at the tolerance, shape (n,): below, they are the solver's
            noise, see ``unresolved``; None for a descent, for fixed steps, and where the field has no loss.
        theta: the points, shape (n, P), where they were kept; else None.
        kept: what the caller's own functions returned, name → (n, …); with ``Keep(sharpness=k)`` also "sharpness" and
            "sharpness_bound", the k largest eigenvalues and their residuals, (n, k).
        start, final: first and last point, shape (P,).
        cost, status, certificates: see their classes.
        notes: what happened on the way that a reader should know: switches of method, warnings of the audit.
        settings: rtol, atol, t, and what else made this path; plain data.
        recipe: the arguments of a descent, to run it again; None for a flow, and for a path read from a file.
        field: the field it was solved on; None for a path read from a file.
    """

    label: str
    kind: str
    method: str
    times: Tensor
    loss: Tensor | None
    grad_norm: Tensor
    sharpness: Tensor
    lambda_min: Tensor
    step: Tensor
    stages: Tensor
    start: Tensor
    final: Tensor
    cost: Cost
    status: Status
    certificates: Certificates = NOT_CHECKED
    theta: Tensor | None = None
    sharpness_bound: Tensor | None = None
    loss_floor: Tensor | None = None
    grad_floor: Tensor | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    field: Field | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def unresolved(self) -> dict[str, Tensor]:
        """Where "loss" and "grad_norm" lie below what the tolerance resolves, a mask of shape (n,) each; empty: not known.

        A loss that falls towards a value other than 0 is resolved, however small its slope is.
        """
        if self.grad_floor is None or self.loss_floor is None:
            return {}
        slope = self.grad_norm < self.grad_floor
        loss = slope & (self.loss.abs() < self.loss_floor) if self.loss is not None else torch.zeros_like(slope)
        return {"loss": loss, "grad_norm": slope}

    def parameters(self) -> dict[str, Tensor]:
        """Return the end point as named parameters, of their own shapes and dtypes; see ``load_state_dict``.

        Raises:
            UsageError: the path was read from a file and does not know its field.
        """
        if self.field is None:
            raise UsageError("this path was read from a file, which keeps no model. Use field.parameters(path.final).")
        return self.field.parameters(self.final)

    def __repr__(self) -> str:
        end = f"t = {float(self.times[-1]):g}" if len(self.times) else "no moment"
        loss = f", loss {float(self.loss[-1]):.6g}" if self.loss is not None and len(self.loss) else ""
        if loss and self.unresolved and bool(self.unresolved["loss"][-1]):
            loss += " (unresolved)"
        return (
            f"<{self.kind} {self.label!r} by {self.method}: {end}{loss}, {self.status.reason}, "
            f"{self.cost.equivalents:.0f} gradient equivalents{self.certificates.word}>"
        )

    def _repr_html_(self) -> str:
        return of_paths([self], repr(self).strip("<>"))

    # ── on disk ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, file: str | File) -> None:
        """Write the path as ``.npz``: arrays under their attribute names, everything else as JSON under ``meta``.

        Raises:
            OutputError: the file cannot be written.
        """
        import numpy as np

        arrays = {n: getattr(self, n) for n in _ARRAYS} | {f"kept/{n}": t for n, t in self.kept.items()}
        meta = {
            "format": FORMAT, "label": self.label, "kind": self.kind, "method": self.method, "cost": asdict(self.cost),
            "status": msgspec.structs.asdict(self.status), "certificates": [asdict(c) for c in self.certificates], "notes": self.notes,
            "settings": self.settings,
        }  # fmt: skip
        out = File(file)
        packed = io.BytesIO()
        np.savez(
            packed,
            meta=np.array(json.dumps(meta)),
            **{n: t.detach().cpu().numpy() for n, t in arrays.items() if t is not None},
        )
        try:
            write(out, packed.getvalue())
        except OSError as problem:
            raise OutputError(f"the path could not be written to {out}: {problem.strerror}.") from problem

    @staticmethod
    def load(file: str | File) -> Path:
        """Read what `save` wrote.

        Raises:
            RecordError: there is no such file, or it is not a path.
        """
        import zipfile

        import numpy as np

        try:
            with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as stored:
                meta = json.loads(str(stored["meta"]))
                if meta["format"] != FORMAT:
                    raise KeyError("format")
                arrays = {n: torch.from_numpy(stored[n]) for n in stored.files if n != "meta"}
            head = {n: meta[n] for n in ("label", "kind", "method", "notes", "settings")}
            cost, status = Cost(**meta["cost"]), Status(**meta["status"])
            held = Certificates(Certificate(**c) for c in meta["certificates"])
            missing = [n for n in _ARRAYS if n not in arrays and n not in _MAY_LACK]
            if missing:
                raise KeyError(missing[0])
        except (FileNotFoundError, IsADirectoryError, PermissionError) as problem:
            raise RecordError(
                f"cannot read {file}: {problem.strerror}. Expected what path.save(file) wrote."
            ) from problem
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as problem:
            raise RecordError(
                f"{file} is not a path ({type(problem).__name__}). Expected what path.save(file) wrote, format {FORMAT!r}."
            ) from problem
        columns: dict[str, Any] = {n: arrays.get(n) for n in _ARRAYS}
        return Path(
            **head, cost=cost, status=status, certificates=held,
            kept={n.removeprefix("kept/"): t for n, t in arrays.items() if n.startswith("kept/")}, **columns,
        )  # fmt: skip


_ARRAYS = (
    "times", "loss", "grad_norm", "sharpness", "lambda_min", "sharpness_bound", "step", "stages", "theta", "start", "final", "loss_floor",
    "grad_floor",
)  # fmt: skip
_MAY_LACK = ("loss", "theta", "sharpness_bound", "loss_floor", "grad_floor")


@dataclass
class Ensemble:
    """The paths of many drops on one field.

    Attributes:
        times: the common times at which moments were kept, shape (n,).
        theta: the points there, shape (n, B, P), where they were kept; NaN after a drop's end.
        values: the loss there, shape (n, B), or None; NaN after a drop's end.
        rates: ‖dθ/dt‖ there, shape (n, B).
        ends: flow time at which each drop ended, shape (B,).
        loss: the loss at each drop's end, shape (B,), or None.
        grad_norm: ‖dθ/dt‖ at each drop's end, shape (B,).
        start, final: first and last points, shape (B, P).
        steps: accepted steps of each drop, shape (B,), int64.
        statuses: why each drop ended.
    """

    method: str
    times: Tensor
    values: Tensor | None
    rates: Tensor
    ends: Tensor
    loss: Tensor | None
    grad_norm: Tensor
    start: Tensor
    final: Tensor
    steps: Tensor
    statuses: list[Status]
    cost: Cost
    certificates: Certificates = NOT_CHECKED
    theta: Tensor | None = None
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    field: Field | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.statuses)

    @property
    def status(self) -> Status:
        """The statuses in one: "reached" where all drops got to an end, else the worst with a count."""
        bad = [s for s in self.statuses if not s.ok]
        if not bad:
            return self.statuses[0] if len({s.reason for s in self.statuses}) == 1 else Status("reached")
        return msgspec.structs.replace(
            bad[0], text=f"{len(bad)} of {len(self)} drops did not arrive; the first: {bad[0].text}"
        )

    def __iter__(self) -> Iterator[Tensor]:
        raise UsageError(
            "an ensemble is not a list of paths: use .final, .loss, .statuses, and .theta with keep=gf.Keep(theta=True)."
        )

    def __repr__(self) -> str:
        return (
            f"<ensemble of {len(self)} drops by {self.method}: {self.status.reason}, "
            f"{self.cost.equivalents:.0f} gradient equivalents{self.certificates.word}>"
        )
