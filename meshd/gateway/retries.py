"""When a rule's requests are sent again: its ``retry`` and ``timeouts`` (GEP-1731, GEP-1742)."""

from __future__ import annotations

import msgspec

from meshd.kube.duration import seconds
from meshd.kube.httproute import Rule
from meshd.model.request_policies import Retry

CONNECT_RETRY = Retry(attempts=3, backoff=0.05, max_backoff=0.5)
"""Without a ``retry``: an endpoint may be gone before the mesh hears of it. Istio's default is 2; the third
covers a busy node."""
_ATTEMPTS = 1
"""Where ``retry`` gives no number: Envoy's num_retries."""
_MAX_BACKOFF_FACTOR = 10
"""Envoy's max_interval, in times of its base_interval."""


def retry(rule: Rule) -> Retry:
    """With a ``retry``, connections that fail or end, and tries that time out, are always sent again.

    ``backoff`` is the least wait (HTTPRouteRetry.backoff), and what the waits are doubled from.
    """
    per_try = seconds(rule.timeouts.backend_request)
    asked = rule.retry
    if asked is None:
        return msgspec.structs.replace(CONNECT_RETRY, per_try_timeout=per_try)
    found = Retry(
        attempts=asked.attempts or _ATTEMPTS,
        reset=True,
        statuses=tuple(sorted(asked.codes)),
        per_try_timeout=per_try,
    )
    if asked.backoff is None:
        return found
    backoff = seconds(asked.backoff)
    return msgspec.structs.replace(
        found, backoff=backoff, max_backoff=_MAX_BACKOFF_FACTOR * backoff, least_backoff=backoff
    )
