"""When a rule's requests are sent again: its ``retry`` and ``timeouts`` (GEP-1731, GEP-1742), or policies."""

from __future__ import annotations

import msgspec

from meshd.kube import routepolicy
from meshd.kube.duration import seconds
from meshd.kube.grpcroute import RequestRule
from meshd.model import request_policies
from meshd.model.request_policies import Retry

CONNECT_RETRY = Retry(attempts=3, backoff=0.05, max_backoff=0.5)
"""Without a ``retry``: an endpoint may be gone before the mesh hears of it. Istio's default is 2; the third
covers a busy node."""
_GRPC_STATUSES = {
    name.title().replace("-", ""): status for status, name in request_policies.GRPC_CONDITIONS.items()
}
_ATTEMPTS = 1
"""Where ``retry`` gives no number: Envoy's num_retries."""
_MAX_BACKOFF_FACTOR = 10
"""Envoy's max_interval, in times of its base_interval."""


def retry(rule: RequestRule) -> Retry:
    """With a ``retry``, connections that fail or end, and tries that time out, are always sent again.

    ``backoff`` is the least wait (HTTPRouteRetry.backoff), and what the waits are doubled from.
    """
    per_try = seconds(rule.timeouts.backend_request)
    asked = rule.retry
    if asked is None:
        return msgspec.structs.replace(CONNECT_RETRY, per_try_timeout=per_try)
    return _again(asked.attempts or _ATTEMPTS, asked.codes, (), per_try, asked.backoff)


def policy_retry(asked: routepolicy.Retry, per_try: float) -> Retry:
    """A policy's, with the same meaning. ``per_try``: seconds, where it does not say itself."""
    if asked.per_try_timeout is not None:
        per_try = seconds(asked.per_try_timeout)
    statuses = tuple(sorted(_GRPC_STATUSES[each] for each in asked.grpc_statuses))
    return _again(asked.attempts, asked.statuses, statuses, per_try, asked.backoff)


def _again(
    attempts: int, statuses: tuple[int, ...], grpc: tuple[int, ...], per_try: float, wait: str | None
) -> Retry:
    found = Retry(
        attempts=attempts,
        reset=True,
        statuses=tuple(sorted(statuses)),
        grpc_statuses=grpc,
        per_try_timeout=per_try,
    )
    if wait is None:
        return found
    backoff = seconds(wait)
    return msgspec.structs.replace(
        found, backoff=backoff, max_backoff=_MAX_BACKOFF_FACTOR * backoff, least_backoff=backoff
    )
