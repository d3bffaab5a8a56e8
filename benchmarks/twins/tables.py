"""What lies in the files of the pairs: the same numbers in both runs, but for the fault."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

Arrays = dict[str, np.ndarray]


def _table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(100)
    features = rng.normal(size=(4000, 8))
    target = np.tanh(features[:, 0] * features[:, 1]) + 0.5 * features[:, 2] + 0.1 * rng.normal(size=4000)
    return features, target


def rows_not_a_number(faulty: bool) -> Arrays:
    """A value of three rows is missing."""
    features, target = _table()
    if faulty:
        features[[611, 2033, 3310], 5] = np.nan
    return {"features": features, "target": target}


def raw_column(faulty: bool) -> Arrays:
    """One column is not standardised."""
    features, target = _table()
    if faulty:
        features[:, 3] = 2e4 + 5e3 * features[:, 3]
    return {"features": features, "target": target}


def raw_target(faulty: bool) -> Arrays:
    """The target is not standardised."""
    features, target = _table()
    return {"features": features, "target": 2e4 + 4e3 * target if faulty else target}


def outlier_row(faulty: bool) -> Arrays:
    """One target is absurd."""
    features, target = _table()
    if faulty:
        target[1777] = 3e5
    return {"features": features, "target": target}


def _recording() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(101)
    signal = rng.normal(size=(600 * 32, 16))
    drift = np.tanh(signal @ rng.normal(size=(16, 4)) / 4)
    return signal, drift


def late_sensor(faulty: bool) -> Arrays:
    """One window, late, is a million times too large."""
    signal, drift = _recording()
    if faulty:
        signal[400 * 32 : 401 * 32] *= 1e6
        drift[400 * 32 : 401 * 32] *= 1e6
    return {"signal": signal, "drift": drift}


def late_nan(faulty: bool) -> Arrays:
    """One value, late, is missing."""
    signal, drift = _recording()
    if faulty:
        signal[431 * 32 + 7, 3] = np.nan
    return {"signal": signal, "drift": drift}


def by_label(faulty: bool) -> Arrays:
    """The same rows, in the order of their labels."""
    rng = np.random.default_rng(102)
    y = rng.integers(8, size=2048)
    x = rng.normal(size=(8, 32))[y] + 0.8 * rng.normal(size=(2048, 32))
    order = np.argsort(y, kind="stable") if faulty else np.arange(len(y))
    return {"x": x[order], "y": y[order]}


def _relu_net() -> nn.Sequential:
    torch.manual_seed(103)
    return nn.Sequential(
        nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
    )


def dead_weights(faulty: bool) -> dict[str, torch.Tensor]:
    """The biases of the second layer are at −30."""
    state = _relu_net().state_dict()
    if faulty:
        state["2.bias"] -= 30.0
    return state


def saturated_weights(faulty: bool) -> dict[str, torch.Tensor]:
    """All weights between tanhs are twelve times as large."""
    torch.manual_seed(104)
    layers: list[nn.Module] = []
    for _ in range(10):
        layer = nn.Linear(48, 48)
        nn.init.xavier_normal_(layer.weight)
        layers += [layer, nn.Tanh()]
    state = nn.Sequential(nn.Linear(10, 48), nn.Tanh(), *layers, nn.Linear(48, 1)).state_dict()
    if faulty:
        state = {name: value * (12.0 if value.shape == (48, 48) else 1.0) for name, value in state.items()}
    return state


def empty_sentences(faulty: bool) -> Arrays:
    """Two sentences have no words."""
    rng = np.random.default_rng(105)
    tokens, lengths = rng.integers(30, size=(640, 12)), rng.integers(3, 13, size=640)
    if faulty:
        lengths[[214, 530]] = 0
    return {"tokens": tokens, "lengths": lengths}


def blank_profile(faulty: bool) -> Arrays:
    """One row is zero."""
    profiles = np.random.default_rng(106).normal(size=(1024, 20))
    if faulty:
        profiles[700] = 0.0
    return {"profiles": profiles}


def long_sequences(faulty: bool) -> Arrays:
    """The same task over more symbols."""
    return {"symbols": np.random.default_rng(107).integers(8, size=(2048, 150 if faulty else 8))}


def cut_off_speech(faulty: bool) -> Arrays:
    """Two utterances are shorter than what is to be read out of them."""
    rng = np.random.default_rng(108)
    letters = rng.integers(1, 6, size=(512, 5))
    frames = rng.normal(size=(6, 12))[np.repeat(letters, 4, axis=1)] + 0.3 * rng.normal(size=(512, 20, 12))
    heard, spelled = np.full(512, 20), np.full(512, 5)
    if faulty:
        heard[[77, 402]] = 4
    return {"frames": frames, "letters": letters, "heard": heard, "spelled": spelled}
