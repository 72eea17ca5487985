"""Where a value is on an axis, and which values are named there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_MOST_TICKS = 7
MOST_NINES = 5
"""Of a percentile axis: up to 99.999 %; for more there are too few requests in a run, and no room."""


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``start`` to ``end`` in pixels; ``end`` may be the lesser (upwards)."""

    start: float
    end: float
    low: float
    high: float
    """In transformed values."""
    transform: Callable[[float], float]
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """A value's pixel; what is outside is at the axis' end."""
        share = (self.transform(value) - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def linear(values: Sequence[float], start: float, end: float) -> Axis:
    """From 0 to beyond the greatest, with round ticks."""
    top = max((*values, 0.0)) or 1.0
    step = _round_step(top / 4)
    ticks = tuple(step * i for i in range(math.ceil(round(top / step, 9)) + 1))
    return Axis(start, end, 0.0, ticks[-1], float, ticks)


def logarithmic(values: Sequence[float], start: float, end: float) -> Axis:
    """Over all the values (> 0), with ticks at 1, 2 and 5 where there is room, else at powers of ten."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    exact = (math.log10(min(positive)), math.log10(max(positive)))
    for parts in ((1, 2, 5), (1, 3), (1,)):
        steps = [part * 10.0**power for power in range(low, high + 1) for part in parts]
        below = max((v for v in steps if math.log10(v) <= exact[0] + 1e-9), default=steps[0])
        above = min((v for v in steps if math.log10(v) >= exact[1] - 1e-9), default=steps[-1] * 10)
        above = above if above > below else below * 10
        ticks = [value for value in steps if below <= value <= above] or [below]
        if len(ticks) <= _MOST_TICKS:
            break
    stride = math.ceil(len(ticks) / _MOST_TICKS)
    return Axis(start, end, math.log10(below), math.log10(above), math.log10, tuple(ticks[::stride]))


def percentiles(greatest: float, start: float, end: float) -> Axis:
    """Quantiles from 0 up to the greatest (< 1), so that 0.9, 0.99, 0.999, … are equally far apart."""
    nines = min(max(math.ceil(round(_nines(greatest), 6)), 1), MOST_NINES)
    ticks = (0.5, *(1 - 10.0**-i for i in range(1, nines + 1)))
    return Axis(start, end, 0.0, float(nines), _nines, ticks)


def _nines(quantile: float) -> float:
    return -math.log10(max(1 - quantile, 1e-9))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * part for part in (1, 2, 2.5, 5, 10) if power * part >= rough * 0.999)
