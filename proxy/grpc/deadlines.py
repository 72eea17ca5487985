"""How long a call may take: the field grpc-timeout (gRPC's doc/PROTOCOL-HTTP2.md, "Timeout")."""

from __future__ import annotations

import math
import re

NAME = b"grpc-timeout"
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MOST = 99_999_999
"""TimeoutValue has at most eight digits."""
_UNITS = ((1e-6, b"u"), (1e-3, b"m"), (1.0, b"S"), (60.0, b"M"), (3600.0, b"H"))
"""From the finest that a clock of ours has."""


def parsed(value: str) -> float | None:
    """Seconds; None: it is malformed, and so means nothing (as in Envoy)."""
    found = _TIMEOUT.fullmatch(value)
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def written(seconds: float) -> bytes:
    """The field's value, rounded up to the finest unit in which it has room."""
    for unit, letter in _UNITS:
        # To the nanosecond: what floating point adds is no reason to round up.
        amount = max(0, math.ceil(round(seconds / unit, 3)))
        if amount <= _MOST:
            return b"%d%s" % (amount, letter)
    return b"%d%s" % (_MOST, _UNITS[-1][1])
