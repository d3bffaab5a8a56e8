"""What the costly parts of watching may take: a few seconds in any case, and then a share of the run's time."""

from __future__ import annotations

from gradientflow.limits import Limit

SHARE_OF_PROBES = Limit("share_for_probes", 0.05, "chosen: a run of an hour becomes three minutes longer")
SHARE_OF_EXTRAS = Limit("share_for_extras", 0.02, "chosen: the sharpness, and the gradient over time, each")
PROBES = Limit("seconds_for_probes", 1.0, "chosen: a short script is worth some probes too")
SHARPNESS = Limit("seconds_for_sharpness", 0.6, "chosen: some Hessian products of a small network")
CHECKS = Limit("seconds_for_checks", 0.5, "chosen: some passes of a small network back from one sample")
DESCENTS = Limit("seconds_for_descents", 0.6, "chosen: some forward passes of a small network")
OVER_TIME = Limit("seconds_for_recurrences", 0.8, "chosen: some thousand steps of a cell")


def allowed(floor: float, share: float, elapsed: float) -> float:
    """Return the seconds that may have been spent after so many seconds of the run.

    Example:
        >>> allowed(PROBES, SHARE_OF_PROBES, 10.0), allowed(PROBES, SHARE_OF_PROBES, 100.0)
        (1.0, 5.0)
    """
    return max(float(floor), share * elapsed)
