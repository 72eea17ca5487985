"""Retries of failed connects, on hosts not tried yet, and their xDS counterpart: the retry policy."""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from google.protobuf import wrappers_pb2

from meshd.model.request_policies import Retry
from meshd.xds.unsupported import UnsupportedError, only

_CONNECT_FAILURE = "connect-failure"
_PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
_SELECTION_ATTEMPTS = 5
"""How often a host is drawn until it is one that has not been tried; what Istio sets."""


def write(action: route_components_pb2.RouteAction, retry: Retry | None) -> None:
    """Set the retry policy for ``retry``."""
    if retry is None:
        return
    policy = action.retry_policy
    policy.retry_on = _CONNECT_FAILURE
    policy.num_retries.CopyFrom(wrappers_pb2.UInt32Value(value=retry.attempts))
    policy.host_selection_retry_max_attempts = _SELECTION_ATTEMPTS
    predicate = policy.retry_host_predicate.add(name=_PREVIOUS_HOSTS)
    predicate.typed_config.Pack(previous_hosts_pb2.PreviousHostsPredicate())


def read(action: route_components_pb2.RouteAction, name: str, where: str) -> Retry | None:
    """The retries; any but those of failed connects on other hosts are not done.

    ``where``: the action's field in the resource ``name``. Raises UnsupportedError.
    """
    if not action.HasField("retry_policy"):
        return None
    policy = action.retry_policy
    where = f"{where}.retry_policy"
    handled = {"retry_on", "num_retries", "retry_host_predicate", "host_selection_retry_max_attempts"}
    only(policy, handled, name, where)
    if policy.retry_on != _CONNECT_FAILURE:
        raise UnsupportedError(name, f"{where}.retry_on", f"only {_CONNECT_FAILURE}")
    if [predicate.name for predicate in policy.retry_host_predicate] != [_PREVIOUS_HOSTS]:
        raise UnsupportedError(name, f"{where}.retry_host_predicate", f"only {_PREVIOUS_HOSTS}")
    # Envoy's default number is 1 (RetryPolicy.num_retries).
    return Retry(attempts=policy.num_retries.value if policy.HasField("num_retries") else 1)
