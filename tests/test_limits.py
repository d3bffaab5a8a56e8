import copy
import pickle

import pytest

from gradientflow.limits import Limit, told


def test_a_limit_compares_as_its_number_does() -> None:
    limit = Limit("decades", 2.0, "chosen: an example")
    assert limit > 1.999 and not limit > 2.0 and limit < 2.001
    assert limit / 2 == 1.0 and f"{limit:.1f}" == "2.0"


def test_what_is_told_is_what_was_compared_with() -> None:
    entry = told(Limit("decades", 2.0, "chosen: an example"), Limit("layers", 15, "chosen: another"))
    assert entry == {"threshold_decades": 2.0, "threshold_layers": 15.0}
    assert all(type(v) is float for v in entry.values())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda limit: pickle.loads(pickle.dumps(limit))])
def test_a_copy_keeps_name_and_source(again) -> None:
    limit = again(Limit("decades", 2.0, "chosen: an example"))
    assert (limit, limit.name, limit.source) == (2.0, "decades", "chosen: an example")


@pytest.mark.parametrize(("name", "source"), [("two words", "chosen: x"), ("", "chosen: x"), ("decades", " ")])
def test_a_limit_without_name_or_source_is_refused(name, source) -> None:
    with pytest.raises(ValueError, match="needs a name"):
        Limit(name, 1.0, source)
