"""The picture of a plane: grey where it leaks, dashed where a path is far from it, and words for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradientflow.errors import UsageError
from gradientflow.records import Plane, Portrait, Shadow, Spent
from gradientflow.report import CountLive, write_figure, write_portrait
from gradientflow.report.maps import grayc
from gradientflow.report.water import greyed, smoothed, tint, water
from tests.report.flow_builders import W1W2, network, portrayed, w1w2

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'gradientflow[plot]'")


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the pixels each way, so that the tests are quick."""
    monkeypatch.setattr("gradientflow.report.plane_page.DPI", 50)
    monkeypatch.setattr("gradientflow.report.water_page.DPI", 50)


def sliced(leak: float = 0.4, off: float = 0.0) -> Portrait:
    """The samples of a surface as if it were a plane of many parameters, with two shadows."""
    drawn = portrayed(W1W2, 33)
    drawn.plane = Plane(
        "pca", ("1st principal direction, 91 %", "2nd principal direction, 6.9 %"), "principal directions of 20 points",
        3190, share=(0.91, 0.069), marks={"a named point": (1.0, 1.0)},
    )  # fmt: skip
    drawn.leak = [leak] * 33**2
    drawn.near = 0.15
    points = [(1.9 - 0.03 * k, -1.2 + 0.18 * k) for k in range(11)]
    drawn.shadows = [
        Shadow("flow", "flow", [float(k) for k in range(11)], points, [off * k / 10 for k in range(11)]),
        Shadow("SGD lr=0.1", "descent", [float(k) for k in range(11)], [(x, y + 0.1) for x, y in points], [0.0] * 11),
    ]
    drawn.spent = Spent(gradients=1089, equivalents=1089.0, seconds=2.5)
    return drawn


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(t.get_text() for t in figure.findobj(Text))


def drawn(portrait: Portrait, flow: Any = None) -> Any:
    from gradientflow.report.plane_page import draw_plane

    return draw_plane(portrait, flow)


def test_the_picture_says_which_plane_it_is_what_leaks_and_what_it_took() -> None:
    told = texts(drawn(sliced()))
    for part in (
        "1st principal direction, 91 %", "2nd principal direction, 6.9 %", "two of 3190 dimensions", "they hold 98 % of the variance",
        "33×33 samples (1089 gradients, 2.5 s)", "leak ‖g⊥‖/‖g‖, median 0.4", "half of them 0.4", "a named point", "SGD lr=0.1",
        "flow, solved: its shadow", "distance out of the plane", "level of the loss, logarithmic: true in the plane",
    ):  # fmt: skip
        assert part in told.replace("\n", " "), part
    assert "dashed" not in told  # nothing is far from the plane
    assert "white: solved" not in told


def test_a_path_far_from_the_plane_is_dashed_there_and_only_there() -> None:
    def lines(portrait: Portrait) -> dict[str, int]:
        white = [x for x in drawn(portrait).axes[0].lines if x.get_color() == "#ffffff" and len(x.get_xdata()) > 1]
        return {
            kind: sum(len(x.get_xdata()) - 1 for x in white if x.is_dashed() == (kind == "dashed"))
            for kind in ("solid", "dashed")
        }

    assert lines(sliced(off=0.0)) == {"solid": 10, "dashed": 0}
    assert lines(sliced(off=0.3)) == {"solid": 5, "dashed": 5}  # off/2 = 0.15 is near still
    assert "more than 0.15 away" in texts(drawn(sliced(off=0.3))).replace("\n", " ")


def test_water_is_grey_where_it_leaks_and_only_there() -> None:
    def colourful(portrait: Portrait) -> tuple[float, float]:
        pixels = water(portrait, 160, 120).pixels
        spread = pixels.max(2) - pixels.min(2)
        return float(spread[:, :70].mean()), float(spread[:, 90:].mean())

    portrait = sliced()
    portrait.leak = [0.0 if k % 33 < 16 else 1.0 for k in range(33**2)]
    left, right = colourful(portrait)
    assert right < 0.01 < 0.05 < left
    portrait.leak = []
    assert min(colourful(portrait)) > 0.05


def test_grey_is_about_as_bright_as_the_colour_was_and_what_is_not_known_is_grey() -> None:
    colour = tint(np.linspace(0, 1, 5))
    weigh = np.array([0.2126, 0.7152, 0.0722])
    assert np.allclose(greyed(colour, np.zeros(5)), colour)
    for leak in (np.ones(5), np.full(5, np.nan)):
        grey = greyed(colour, leak)
        assert np.allclose(grey.max(1), grey.min(1)) and np.allclose(grey @ weigh, colour @ weigh, atol=0.12)
    half = greyed(colour, np.full(5, 0.5))
    assert np.allclose(half, (colour + greyed(colour, np.ones(5))) / 2)
    assert grayc(0.0).tolist() == [0, 0, 0] and grayc(1.0).tolist() == [1, 1, 1]
    assert (np.diff(grayc(np.linspace(0, 1, 64))[:, 0]) > 0).all()


def test_a_leak_that_is_nowhere_known_is_said() -> None:
    portrait = sliced()
    portrait.leak = [None] * 33**2
    assert portrait.middle_leak is None
    assert "not known" in texts(drawn(portrait))


def test_files_are_written_from_a_portrait_alone_and_with_a_flow(tmp_path: Path) -> None:
    write_portrait(sliced(), tmp_path / "a.png")
    write_figure(network(), sliced(), tmp_path / "b.png")
    write_portrait(w1w2()[1], tmp_path / "c.png")  # of two parameters
    assert all((tmp_path / f"{n}.png").stat().st_size > 5000 for n in "abc")
    with pytest.raises(UsageError, match=r"\.gif"):
        write_portrait(sliced(), tmp_path / "a.gif")
    told = texts(drawn(sliced(), network()))
    assert "white: solved" in told and "certificates hold" in told
    net = network()
    net.stories[0].flow.checks[0].ok = False
    assert "BROKEN" in texts(drawn(sliced(), net))


def test_many_paths_and_long_names_stay_on_the_page() -> None:
    portrait = sliced(off=9.0)
    portrait.name = "a_loss_with_a_very_long_name_of_many_words of AModelWithAnEvenLongerNameThanThat"
    portrait.shadows = [portrait.shadows[0], *(
        Shadow(f"SGD lr={k} momentum=0.9 nesterov=True", "descent", [0.0, 1.0], [(0.0, 0.0), (0.1 * k, 1.0)], [0.0, 1e9])
        for k in range(6)
    )]  # fmt: skip
    portrait.shadows.append(Shadow("none", "descent", [], [], []))
    figure = drawn(portrait)
    figure.canvas.draw()
    width = figure.get_size_inches()[0] * figure.dpi
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            assert text.get_window_extent().x1 < width + 2, text.get_text()


def test_a_count_is_shown_in_a_log(tmp_path: Path) -> None:
    import io

    out, now = io.StringIO(), iter([0.0, 1.0, 7.0, 8.0])
    with CountLive(out, "sampling the plane", lambda: next(now)) as live:
        for done in (10, 20, 30):
            live(done, 1000)
    assert out.getvalue() == "sampling the plane: 20 of 1000 gradients of this grid\n"


def test_coarse_samples_are_interpolated_and_stay_what_they_are() -> None:
    x = np.linspace(0, 3, 17)
    coarse = np.cos(x)[:, None] * np.exp(-x)[None, :]
    fine = smoothed(coarse, 150)
    assert fine.shape == (161, 161) and np.array_equal(fine[::10, ::10], coarse)
    z = np.linspace(0, 3, 161)
    true = np.cos(z)[:, None] * np.exp(-z)[None, :]
    error = np.abs(fine - true)[10:-10, 10:-10].max()
    linear = np.abs(np.array([[np.interp(b, x, np.interp(a, x, np.cos(x)) * np.exp(-x)) for b in z] for a in z]) - true)
    assert error < 0.3 * linear[10:-10, 10:-10].max()
    assert smoothed(coarse, 17) is coarse
    holed = coarse.copy()
    holed[3, 3] = np.nan
    assert smoothed(holed, 150) is holed


def test_the_terminal_says_which_plane_was_sampled_at_what_cost() -> None:
    import io

    from rich.console import Console

    from gradientflow.report import print_flow

    def told(portrait: Portrait | None) -> str:
        flow, out = network(), io.StringIO()
        flow.portrait = portrait
        print_flow(flow, Console(file=out, width=100, no_color=True))
        return " ".join(out.getvalue().split())

    assert (
        "plane principal directions of 20 points, holding 98 % of their variance; leak ‖g⊥‖/‖g‖, median 0.4; "
        "33×33 samples, 1089 gradients in 2.5 s"
    ) in told(sliced())
    assert "plane principal" not in told(None)
    without = sliced()
    without.loss = None
    assert "leak ‖f⊥‖/‖f‖, median 0.4" in told(without)


def test_one_named_point_is_in_the_key_and_several_have_their_names_beside_them_on_the_page() -> None:
    def beside(marks: dict[str, tuple[float, float]]) -> list[str]:
        portrait = sliced()
        assert portrait.plane is not None
        portrait.plane.marks = marks
        figure = drawn(portrait)
        figure.canvas.draw()
        named = [t for t in figure.axes[0].texts if t.get_text() in marks]
        edge = figure.axes[0].get_window_extent()
        assert all(edge.x0 <= t.get_window_extent().x0 and t.get_window_extent().x1 <= edge.x1 for t in named)
        return [t.get_text() for t in named]

    assert beside({"a named point": (1.0, 1.0)}) == []
    three = {"1st point": (-2.3, 0.0), "2nd point": (2.3, 0.0), "3rd point": (0.0, 1.4)}
    assert beside(three) == list(three)
