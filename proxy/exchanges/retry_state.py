"""Whether and when a request is tried again: what the route's policy says, and what is left of it. Pure."""

from __future__ import annotations

import enum

from meshd.model.request_policies import Retry
from proxy.exchanges.kept_request import MAX_KEPT_BODY_BYTES


class Cause(enum.Enum):
    """Why a try has come to nothing."""

    CONNECT = "connect"
    """There was no connection to be had: nothing has been sent."""
    RESET = "reset"
    """No whole head of a response came: the server went, what it sent is none, or the try's time ran out."""


def asks_for(policy: Retry, status: int, grpc_status: str | None) -> bool:
    """Whether a policy wants another try after such a response (RetryStateImpl::wouldRetryFromHeaders).

    ``grpc_status``: that its head tells, in decimal; None: it tells none.
    """
    return status in policy.statuses or (grpc_status is not None and int(grpc_status) in policy.grpc_statuses)


class RetryState:
    """One request's."""

    __slots__ = ("_policy", "_tries")

    def __init__(self, policy: Retry) -> None:
        self._policy = policy
        self._tries = 0
        """Besides the first, so far."""

    def asks(self, cause: Cause) -> bool:
        """Whether the policy wants another try after such a failure (RetryStateImpl::wouldRetryFromReset)."""
        policy = self._policy
        return policy.reset or (cause is Cause.CONNECT and policy.connect_failure)

    @property
    def has_begun(self) -> bool:
        """Whether there was a try besides the first."""
        return self._tries > 0

    def take(self) -> bool:
        """Count another try; False: none is left."""
        if self._tries >= self._policy.attempts:
            return False
        self._tries += 1
        return True

    def may_go_on_at_once(self) -> bool:
        """Whether a try that found no connection may be followed by one elsewhere without a wait.

        Envoy waits here, too. But nothing was sent, so no server is spared by it, and the client loses time:
        in a rollout every one whose endpoint has just ended. Where the policy has a least wait, it holds.
        """
        return self._policy.least_backoff == 0

    def backoff(self, random: float) -> float:
        """Seconds to wait before the try that was just counted: exponential, with full jitter.

        ``random``: uniform in [0, 1).
        """
        return self._policy.least_backoff + self._interval() * random

    def patience(self, random: float) -> float:
        """Seconds to wait for a change of the endpoints, where none of them could be reached.

        Half of it is certain: after an endpoint's end it is some time before everybody has heard of it.
        """
        return max(self._policy.least_backoff, self._interval() * (0.5 + random))

    def _interval(self) -> float:
        policy = self._policy
        return min(policy.max_backoff, policy.backoff * 2.0 ** min(self._tries - 1, 64))


def kept_bytes(policy: Retry | None) -> int:
    """How much of a request's body is kept to be sent again, beside what came before it was sent."""
    if policy is None or not policy.attempts or not (policy.reset or policy.statuses or policy.grpc_statuses):
        return 0
    return MAX_KEPT_BODY_BYTES


def try_seconds(policy: Retry | None, timeout: float) -> float:
    """A try's time for a response's head; 0: no limit. ``timeout``: the route's, which would come first."""
    if policy is None or 0 < timeout <= policy.per_try_timeout:  # as in Envoy
        return 0.0
    return policy.per_try_timeout
