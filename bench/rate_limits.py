"""What it costs to ask the node's table of token buckets: ``python -m bench.rate_limits``."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from meshd.model.request_policies import RateLimit, TokenBucket
from proxy.filters.rate_limits import RateLimits
from proxy.node_buckets import FILE_NAME, NodeBuckets

_ROUNDS, _CHECKS = 7, 50_000
_PLENTY = TokenBucket(tokens=10_000_000, interval=1.0, burst=10_000_000)
_NONE = TokenBucket(tokens=1, interval=86_400.0, burst=1)
_LIMITS = {
    "a token is there": RateLimit(all=_PLENTY),
    "none is there": RateLimit(all=_NONE),
    "of the client and of all": RateLimit(all=_PLENTY, each_client=_PLENTY),
}


def main() -> None:
    """Print the median of some rounds, in microseconds a request."""
    with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
        buckets = NodeBuckets(Path(folder) / FILE_NAME)
        for what, limit in _LIMITS.items():
            limits = RateLimits(limit, what)
            rounds = [_round(limits, buckets) for _ in range(_ROUNDS)]
            print(f"{what:<28}{statistics.median(rounds):6.2f} µs  (least {min(rounds):.2f})")
        buckets.close()


def _round(limits: RateLimits, buckets: NodeBuckets) -> float:
    begin = time.perf_counter()
    for _ in range(_CHECKS):
        limits.allow(b"10.244.0.5", buckets.take)
    return (time.perf_counter() - begin) / _CHECKS * 1e6


if __name__ == "__main__":
    main()
