"""A token bucket in one number: the time at which it is full again. Times in nanoseconds.

That is the generic cell rate algorithm (ITU-T I.371, virtual scheduling). As Envoy's AtomicTokenBucketImpl
the bucket fills steadily, not at the end of each interval, and begins full.
"""

from __future__ import annotations

from typing import NamedTuple

from meshd.model.request_policies import TokenBucket


class Rate(NamedTuple):
    """What a bucket is, for the arithmetic."""

    spacing: int
    """From one token to the next."""
    full_after: int
    """From empty to full."""


def rate(bucket: TokenBucket) -> Rate:
    """The rate of a bucket that gets at least one token in an interval."""
    spacing = max(1, round(bucket.interval * 1e9 / bucket.tokens))
    return Rate(spacing, spacing * bucket.burst)


def take(rate: Rate, full_at: int, now: int) -> int | None:
    """``full_at`` after a token has been taken; None: there is none.

    ``full_at`` of a bucket that nothing has been taken from: any that is past.
    """
    later = max(full_at, now) + rate.spacing
    return later if later - now <= rate.full_after else None
