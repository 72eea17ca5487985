"""Gateway API durations (GEP-2257)."""

from __future__ import annotations

import re

_PART = re.compile(r"([0-9]+)(h|ms|m|s)")
_UNIT = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(duration: str | None) -> float:
    """A duration in seconds; 0 for none, which means no limit."""
    return sum(float(n) * _UNIT[unit] for n, unit in _PART.findall(duration or ""))
