"""The names of packages: as they are imported, and as they are installed."""

from __future__ import annotations

from importlib.metadata import packages_distributions

import pytest

from gradientflow.packages import _INSTALLED_BY, distribution


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("cv2", "opencv-python"),
        ("PIL.Image", "pillow"),
        ("google.protobuf", "protobuf"),
        ("google.cloud", "google"),
        ("numpy.linalg", "numpy"),
    ],
)
def test_what_pip_installs(module: str, name: str) -> None:
    assert distribution(module) == name


def test_the_table_holds_what_is_installed_here_by_another_name() -> None:
    """Held against this environment's own record of who brings which package."""
    here = packages_distributions()
    known = {top: by for top, by in here.items() if top in _INSTALLED_BY and len(set(by)) == 1}
    assert known, "none of the table is installed here"

    def plain(word: str) -> str:
        return word.lower().replace("_", "-")

    assert {top: plain(by[0]) for top, by in known.items()} == {top: plain(_INSTALLED_BY[top]) for top in known}


def test_no_entry_is_its_own_name() -> None:
    assert not [top for top, by in _INSTALLED_BY.items() if top == by]
