"""Figures of flows: what is refused before drawing, and what a drawn file holds."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradientflow.errors import OutputError, UsageError
from gradientflow.records import Check, Portrait
from gradientflow.report import check_figure, write_figure
from gradientflow.report.maps import batlow, navia
from gradientflow.report.water import tint, water
from tests.report.flow_builders import W1W2, many, network, portrayed, solved, w1w2

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'gradientflow[plot]'")


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the pixels each way, so that the tests are quick."""
    monkeypatch.setattr("gradientflow.report.water_page.DPI", 50)


def words(file: Path) -> str:
    """All texts that a figure was drawn with, read off its SVG."""
    return file.read_text(encoding="utf-8")


def _size(file: Path) -> tuple[int, int]:
    head = file.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    wide, tall = struct.unpack(">II", head[16:24])
    return wide, tall


@pytest.mark.parametrize(("name", "word"), [("a.gif", ".gif"), ("a", "no extension"), ("a.npz", "a.png")])
def test_an_unknown_extension_is_refused_and_the_known_ones_named(tmp_path: Path, name: str, word: str) -> None:
    with pytest.raises(UsageError) as told:
        check_figure(tmp_path / name)
    assert word in str(told.value)
    assert ".png, .svg, .pdf" in str(told.value)


def test_a_missing_folder_is_refused_with_the_call_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="mkdir -p"):
        check_figure(tmp_path / "no" / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_figure(tmp_path / "b.png")
    check_figure(tmp_path / "A.PNG")  # negative control: this one is fine


def test_without_matplotlib_the_mend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else real(name, *a))
    with pytest.raises(UsageError, match=r"pip install 'gradientflow\[plot\]'"):
        check_figure(tmp_path / "a.png")


def test_the_room_of_reports_is_entered_without_numpy_and_matplotlib() -> None:
    code = "import sys; sys.modules['numpy'] = sys.modules['matplotlib'] = sys.modules['torch'] = None\n"
    code += "import gradientflow.report, gradientflow.report.water_page, gradientflow.report.panels, gradientflow.report.plane_page; print('in')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "in\n", done.stderr


def test_water_is_drawn_as_png_and_pdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, portrait = w1w2()
    monkeypatch.setattr("gradientflow.report.water_page.DPI", 150)
    write_figure(flow, portrait, tmp_path / "a.png")
    wide, tall = _size(tmp_path / "a.png")
    assert wide > 1500 and tall > 900
    monkeypatch.setattr("gradientflow.report.water_page.DPI", 50)
    write_figure(flow, portrait, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_many_drops_and_a_network_are_drawn(tmp_path: Path) -> None:
    write_figure(*many(12), tmp_path / "many.png")
    write_figure(network(), None, tmp_path / "net.svg")
    assert _size(tmp_path / "many.png")[0] > 500
    assert "<svg" in words(tmp_path / "net.svg")


def test_the_same_flow_gives_the_same_file(tmp_path: Path) -> None:
    flow, portrait = w1w2()
    for name in ("a.png", "b.png"):
        write_figure(flow, portrait, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_figure(network(), None, tmp_path / "net.png")
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not __import__("matplotlib.pyplot").pyplot.get_fignums()


def _texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(t.get_text() for t in figure.findobj(Text))


def test_the_dock_says_what_is_drawn_and_the_caption_which_ink_is_which() -> None:
    from gradientflow.report.water_page import draw_water

    told = _texts(draw_water(*w1w2()))
    for part in (
        "w1w2", "flow, solved", "SGD lr=0.45: 44 steps", "Adam lr=0.15: 133 steps", "saddle", "valley of minima", "separatrix",
        "drop ①", "(1.60, 0.62)", "2.17", "−2.22", "a sketch from 96×96 samples", "white: solved, rkc2, rtol 1e−3, 194 gradients", "loss over flow time",
        "certificates hold: monotone, energy",
    ):  # fmt: skip
        assert part in told
    assert "BROKEN" not in told


def test_the_small_curve_shades_what_the_tolerance_does_not_resolve() -> None:
    import copy

    from matplotlib.collections import PolyCollection

    from gradientflow.report.water_page import draw_water

    flow, portrait = copy.deepcopy(w1w2())
    track = flow.stories[0].flow

    def shaded(floor: float) -> bool:
        track.loss_floor = [floor] * len(track.times)
        figure = draw_water(flow, portrait)
        curve = next(a for a in figure.axes for t in [a.get_title(loc="left")] if t.startswith("loss over flow time"))
        areas = [c for c in curve.collections if isinstance(c, PolyCollection)]
        assert bool(areas) == ("shaded: unresolved at rtol 1e−3" in curve.get_title(loc="left"))
        return bool(areas)

    least = min(x for x in track.loss or [] if x is not None)
    assert shaded(2 * least) and not shaded(0.5 * least)


def test_a_broken_certificate_is_in_both_figures() -> None:
    from gradientflow.report.panels import draw_panels
    from gradientflow.report.water_page import draw_water

    bad = Check("energy", False, 0.5, 0.01, "off by 0.5")
    flow, portrait = w1w2()
    flow.stories[0].flow.checks = [bad]
    assert "BROKEN: energy" in _texts(draw_water(flow, portrait))
    net = network()
    assert "BROKEN" not in _texts(draw_panels(net))
    net.stories[0].flow.checks = [bad]
    assert "BROKEN: energy" in _texts(draw_panels(net))


def test_panels_mark_where_the_flow_gets_too_sharp_for_a_descent() -> None:
    from gradientflow.report.panels import crossing, draw_panels

    flow = network()
    story = flow.stories[0]
    assert [crossing(story, t) for t in story.descents] == [(34.0, 36.0), None, None]
    told = _texts(draw_panels(flow))
    assert "passes 2/η of SGD lr=0.1 between t = 34 and 36" in told
    assert "2/η = 50" in told
    assert "passes 2/η of SGD lr=0.04" not in told


def test_only_measured_sharpness_is_marked_and_nothing_stands_for_the_rest() -> None:
    from gradientflow.report.panels import draw_panels

    flow = network()
    track = flow.stories[0].flow
    track.sharpness = [x if k % 7 == 0 else None for k, x in enumerate(track.sharpness)]
    known = [(t, x) for t, x in zip(track.times, track.sharpness, strict=True) if x is not None]
    sharp = next(axes for axes in draw_panels(flow).axes if axes.get_ylabel() == "sharpness λ")
    dots = [line for line in sharp.lines if line.get_marker() == "o"]
    assert any(list(zip(*line.get_data(), strict=True)) == known for line in dots)
    thick = [
        line
        for line in sharp.lines
        if line.get_linestyle() == "-" and line.get_linewidth() > 1.5 and len(line.get_xdata()) > 2
    ]
    assert not thick  # no line that pretends


def test_panels_without_descents_without_loss_and_without_sharpness() -> None:
    from gradientflow.report.panels import draw_panels

    flow = network()
    story = flow.stories[0]
    story.descents, story.apart = [], []
    assert "step h" in _texts(draw_panels(flow))
    story.flow.loss = None
    story.flow.sharpness = [None] * len(story.flow.times)
    told = _texts(draw_panels(flow))
    assert "loss L" not in told and "sharpness" not in told.split("CrossEntropyLoss")[0]


def test_steps_outside_the_picture_are_counted_and_do_not_widen_it() -> None:
    from gradientflow.report.water_page import draw_water

    flow, portrait = w1w2()
    flow.stories[0].descents[0].points = [(1.9, -1.2), (1e6, 1e6), (float("inf"), 0.0)]
    figure = draw_water(flow, portrait)
    assert "1 outside the picture" in _texts(figure)
    assert figure.axes[0].get_xlim() == portrait.box[:2]


# ── the water ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _field(u: float, v: float, n: int = 16) -> Portrait:
    return Portrait("f", (0.0, 1.0, 0.0, 1.0), n, [u] * n * n, [v] * n * n, None)


def _roughness(pixels: np.ndarray[Any, Any], axis: int) -> float:
    return float(np.abs(np.diff(pixels.sum(2), axis=axis)).mean())


def test_streaks_lie_along_the_flow() -> None:
    across = water(_field(1.0, 0.0), 160, 160).pixels
    upwards = water(_field(0.0, 1.0), 160, 160).pixels
    assert _roughness(across, 1) < 0.5 * _roughness(across, 0)
    assert _roughness(upwards, 0) < 0.5 * _roughness(upwards, 1)  # negative control: turned by 90° the same test fails
    assert not _roughness(upwards, 1) < 0.5 * _roughness(upwards, 0)


def test_streaks_are_brighter_towards_where_the_flow_goes() -> None:
    def lean(pixels: np.ndarray[Any, Any]) -> float:
        steps = np.diff(pixels.sum(2), axis=1)
        return float(np.mean(steps**3))  # slow rise, sudden fall: negative

    assert lean(water(_field(1.0, 0.0), 300, 300).pixels) < 0 < lean(water(_field(-1.0, 0.0), 300, 300).pixels)


def test_water_is_reproducible_and_in_range() -> None:
    portrait = portrayed(W1W2, 48)
    one, two, other = (water(portrait, 200, 120, seed=s) for s in (0, 0, 1))
    assert np.array_equal(one.pixels, two.pixels)
    assert not np.array_equal(one.pixels, other.pixels)
    assert one.pixels.shape == (120, 200, 3)
    assert one.pixels.min() >= 0 and one.pixels.max() <= 1
    assert one.slow < one.fast


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_water_that_stands_or_is_not_finite_is_calm(value: float) -> None:
    pixels = water(_field(value, value), 60, 60).pixels
    assert np.isfinite(pixels).all()
    assert np.ptp(pixels, axis=(0, 1)).max() == 0


def test_maps_are_crameris_and_grow_brighter() -> None:
    for colours in (batlow, navia, tint):
        light = colours(np.linspace(0, 1, 64)) @ np.array([0.2126, 0.7152, 0.0722])
        assert (np.diff(light) > 0).all()
    assert np.allclose(batlow(0.0) * 255, (1, 25, 89), atol=0.6)
    assert np.allclose(navia(1.0) * 255, (252, 244, 217), atol=0.6)


def test_paths_are_where_the_builders_put_them() -> None:
    track = solved(W1W2, (1.9, -1.2), 20.0)
    x, y = track.points[-1]
    assert x * y == pytest.approx(1.0, abs=1e-8)
    assert x * x - y * y == pytest.approx(1.9**2 - 1.2**2, abs=1e-6)
