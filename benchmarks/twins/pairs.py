"""The pairs: a script, what lies beside it in the sound run and in the faulty one, and what is wrong in the latter.

Nothing in a script says which of its two runs it is. What differs is a `Setting`: files beside the script, and the
environment. The lines of a fault are named by text that stands in them, so that they cannot go stale.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.twins import tables

Setting = Callable[[Path, bool], None]


@dataclass(frozen=True)
class Pair:
    """One script and its two runs.

    Args:
        name: of the pair.
        script: under `scripts/`.
        story: what is wrong in the faulty run.
        symptoms, causes: accepted, the best first.
        at: texts of the lines that are accepted as the place; none: the place is not judged.
        files: writes what lies beside the script, for the faulty run if its second argument says so.
        sound, faulty: environment of either run.
        remedies: accepted remedies.
    """

    name: str
    script: str
    story: str
    symptoms: tuple[str, ...]
    causes: tuple[str, ...]
    at: tuple[str, ...] = ()
    files: Setting | None = None
    sound: dict[str, str] = field(default_factory=dict)
    faulty: dict[str, str] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()


def _config(base: dict[str, object], **changed: object) -> Setting:
    """Return a writer of config.json: `base`, with some entries changed in the faulty run."""

    def write(folder: Path, faulty: bool) -> None:
        (folder / "config.json").write_text(json.dumps(base | changed if faulty else base, indent=1) + "\n")

    return write


def _archive(name: str, make: Callable[[bool], dict[str, np.ndarray]]) -> Setting:
    """Return a writer of an npz file."""

    def write(folder: Path, faulty: bool) -> None:
        np.savez(folder / name, **make(faulty))

    return write


def _checkpoint(make: Callable[[bool], dict[str, torch.Tensor]]) -> Setting:
    """Return a writer of checkpoint.pt."""

    def write(folder: Path, faulty: bool) -> None:
        torch.save(make(faulty), folder / "checkpoint.pt")

    return write


_CONFIGURED = {"seed": 12, "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "schedule_steps": 400, "max_norm": 5.0}
_DEEP = {"seed": 13, "depth": 10, "width": 64, "gain": 1.414, "activation": "ReLU", "lr": 0.01}
_TOO_SMALL_A_STEP = ("crawling", "stalled", "dead")

PAIRS: tuple[Pair, ...] = (
    Pair(
        "rows-not-a-number", "tabular.py", "three rows of 4000 hold NaN", ("not-finite",), ("bad-batch",),
        ("target = torch.tensor", "features = torch.tensor", "loss = loss_of", "table = np.load"), _archive("table.npz", tables.rows_not_a_number),
        remedies=("drop-bad-batch",),
    ),
    Pair(
        "column-in-raw-units", "tabular.py", "one column is in grams where the others are standardised",
        ("diverging", "not-finite", "dead", "oscillating", "crawling", "exploding"), ("unscaled-input",),
        ("features = torch.tensor", "table = np.load", "model = nn.Sequential", "loss = loss_of"),
        _archive("table.npz", tables.raw_column), remedies=("scale-input",),
    ),
    Pair(
        "target-in-raw-units", "tabular.py", "the yield is in milligrams: its spread is 4000",
        ("diverging", "not-finite", "dead", "oscillating", "crawling", "exploding"), ("unscaled-target",),
        ("target = torch.tensor", "table = np.load", "loss = loss_of", "loss_of = nn.MSELoss"), _archive("table.npz", tables.raw_target),
        remedies=("scale-target",),
    ),
    Pair(
        "outlier-row", "tabular.py", "one row of 4000 has a target of 3e5: a decimal point was lost",
        ("diverging", "not-finite", "oscillating", "dead", "exploding"), ("bad-batch",),
        ("target = torch.tensor", "table = np.load", "loss = loss_of", "for rows in"), _archive("table.npz", tables.outlier_row),
        remedies=("drop-bad-batch", "clip-gradient"),
    ),
    Pair(
        "sensor-fails-late", "stream.py", "from window 400 on the recording holds a stuck amplifier: values of 1e6 for one window",
        ("diverging", "not-finite", "oscillating", "crawling", "dead", "vanishing"), ("bad-batch", "unscaled-input"),
        ("signal = torch.tensor", "recording = np.load", "loss = nn.functional", "window = slice"),
        _archive("recording.npz", tables.late_sensor), remedies=("drop-bad-batch",),
    ),
    Pair(
        "late-not-a-number", "stream.py", "window 431 of 600 holds a single NaN", ("not-finite",), ("bad-batch",),
        ("signal = torch.tensor", "recording = np.load", "loss = nn.functional", "window = slice"),
        _archive("recording.npz", tables.late_nan), remedies=("drop-bad-batch",),
    ),
    Pair(
        "sorted-by-label", "sorted_labels.py", "the file is sorted by label, so every batch holds one class",
        ("oscillating", "noisy", "stalled"), ("bad-batch", "small-batch-noise", "mixed-samples"),
        (), _archive("spectra.npz", tables.by_label),
    ),
    Pair(
        "updates-lost-in-bfloat16", "precision.py", "in bfloat16 most updates are below half a unit in the last place of the weights",
        _TOO_SMALL_A_STEP, ("rounding", "step-too-small"), ("optimizer = torch.optim", "nn.Linear(20, 64)", "dtype = getattr", "optimizer.step()"),
        faulty={"TRAIN_DTYPE": "bfloat16"}, remedies=("raise-step",),
    ),
    Pair(
        "eps-lost-in-half", "half_adam.py", "in float16 Adam's eps is 0: weights of the margins get 0/0", ("not-finite",),
        ("overflow", "singular-op", "rounding"), ("optimizer = torch.optim", "optimizer.step()", "dtype = getattr", "nn.Linear(64, 64)"),
        faulty={"TRAIN_DTYPE": "float16"},
    ),
    Pair(
        "checkpoint-of-dead-units", "resume.py", "the checkpoint's second layer was pushed far below zero: all its units are dead",
        ("dead",), ("dead-units",), ("nn.Linear(12, 64)", "model.load_state_dict", "model = nn.Sequential"), _checkpoint(tables.dead_weights),
    ),
    Pair(
        "checkpoint-saturated", "resume_tanh.py", "the checkpoint's weights had grown twelvefold: every tanh sits at ±1",
        ("vanishing", "dead"), ("saturating-activation", "init-too-large", "dead-units"),
        ("nn.Linear(48, 48)", "model.load_state_dict"), _checkpoint(tables.saturated_weights),
    ),
    Pair(
        "schedule-too-short", "configured.py", "the schedule ends after 20 of 400 steps, at a learning rate of 0",
        _TOO_SMALL_A_STEP, ("step-too-small", "schedule-ended"), ("schedule = ", "optimizer = ", "model.parameters(), lr", "schedule.step()"),
        _config(_CONFIGURED, schedule_steps=20),
    ),
    Pair(
        "rate-too-large", "configured.py", "a learning rate of 5 where 0.05 was meant",
        ("diverging", "oscillating", "not-finite", "dead"), ("step-too-large",), ("optimizer = ", "model.parameters(), lr"),
        _config(_CONFIGURED, lr=5.0), remedies=("lower-step",),
    ),
    Pair(
        "decay-too-large", "configured.py", "a weight decay of 1 where 1e-4 was meant", ("crawling", "vanishing", "dead", "stalled"),
        ("over-regularised",), ("optimizer = ", "model.parameters(), lr"), _config(_CONFIGURED, weight_decay=1.0),
        remedies=("lower-regularisation",),
    ),
    Pair(
        "clip-to-nothing", "configured.py", "max_norm 0 was meant as no clipping", (*_TOO_SMALL_A_STEP, "disconnected"),
        ("gradient-altered", "step-too-small"), ("nn.utils.clip_grad_norm_", "optimizer = "), _config(_CONFIGURED, max_norm=0.0),
    ),
    Pair(
        "gain-too-small", "deep.py", "a gain of 0.5 where ReLU needs 1.414", ("vanishing",), ("init-too-small",),
        ("nn.init.normal_", "linear = nn.Linear"), _config(_DEEP, gain=0.5), remedies=("rescale-init",),
    ),
    Pair(
        "gain-too-large", "deep.py", "a gain of 4 where ReLU needs 1.414", ("exploding", "not-finite", "diverging", "dead"),
        ("init-too-large",), ("nn.init.normal_", "linear = nn.Linear"), _config(_DEEP, gain=4.0), remedies=("rescale-init",),
    ),
    Pair(
        "sigmoid-by-config", "deep.py", "ten sigmoids one after the other", ("vanishing",), ("saturating-activation",),
        ("layers += [linear",), _config(_DEEP, activation="Sigmoid"), remedies=("swap-activation",),
    ),
    Pair(
        "depth-and-width", "deep.py", "thirty layers of three units: with either alone it learns", ("dead", "vanishing"),
        ("dead-units", "depth-without-skip", "init-too-small"), (), _config(_DEEP | {"seed": 1}, depth=30, width=3),
    ),
    Pair(
        "empty-sentences", "masked.py", "two of 640 sentences are empty: their attention has nothing to attend to", ("not-finite",),
        ("singular-op",), ("scores.softmax(-1)", "scores = scores.masked_fill"), _archive("corpus.npz", tables.empty_sentences),
        remedies=("clamp-op", "drop-bad-batch"),
    ),
    Pair(
        "blank-profile", "cosine.py", "one profile of 1024 is blank, so its embedding is the zero vector", ("not-finite",),
        ("singular-op",), ("return z / z.pow(2)",), _archive("profiles.npz", tables.blank_profile), remedies=("clamp-op",),
    ),
    Pair(
        "long-sequences", "recall.py", "the sequences have 150 symbols where they had 8", ("vanishing", "crawling"),
        ("recurrence",), ("self.rnn = nn.RNN", "self.rnn(self.embed"), _archive("sequences.npz", tables.long_sequences),
        remedies=("gated-cell", "orthogonal-recurrence"),
    ),
    Pair(
        "many-pieces-and-a-large-step", "accumulate.py",
        "64 gradients are added and not averaged, at ten times the rate: with either alone it learns",
        ("diverging", "not-finite", "oscillating", "dead"), ("step-too-large",), ("optimizer = ",),
        sound={"ACCUMULATE": "4"}, faulty={"ACCUMULATE": "64", "LEARNING_RATE": "0.1"}, remedies=("lower-step",),
    ),
    Pair(
        "fewer-frames-than-letters", "speech.py", "in two of 512 utterances fewer frames were heard than letters spelled",
        ("not-finite",), ("singular-op", "bad-batch"), ("loss = ctc", "ctc = nn.CTCLoss", "frames = torch.tensor", "speech = np.load"),
        _archive("speech.npz", tables.cut_off_speech), remedies=("drop-bad-batch", "clamp-op"),
    ),
)  # fmt: skip
