"""Causes: from what was seen to what it means. Dry: records in, findings out; no torch."""

from __future__ import annotations

from gradientflow.depth.causes.at_step import looked_at, way_at
from gradientflow.depth.causes.glance import Later, settle
from gradientflow.depth.causes.verdict import judge

__all__ = ["Later", "judge", "looked_at", "settle", "way_at"]
