"""Retry and its xDS counterpart, the retry policy.

Envoy's conditions overlap: "reset" holds where a connection could not be made, too, and "5xx" and
"gateway-error" are statuses and "reset" together (docs, "x-envoy-retry-on"). They are read as what they hold.
"""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2

from meshd.model.request_policies import GRPC_CONDITIONS, Retry
from meshd.xds.packing import duration, number, pack, seconds, wrapped
from meshd.xds.unsupported import UnsupportedError, only

LEAST_BACKOFF = "least_backoff"
"""In the metadata of a route: seconds. Envoy knows no such bound."""
_PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
_SELECTION_ATTEMPTS = 5
"""How often a host is drawn until it is one that has not been tried; what Istio sets."""
_CONNECT_FAILURE, _RESET, _STATUSES = "connect-failure", "reset", "retriable-status-codes"
_STATUSES_OF = {
    "5xx": range(500, 600),
    "gateway-error": range(502, 505),
    "retriable-4xx": range(409, 410),
}
_IS_RESET = frozenset((_RESET, "5xx", "gateway-error"))
_IS_CONNECT_FAILURE = _IS_RESET | {_CONNECT_FAILURE, "reset-before-request"}
"""A request over HTTP/1 is out as soon as there is a connection: before it, only connecting can fail."""
_NEVER = frozenset(("refused-stream",))
"""Only HTTP/2 refuses streams, and clusters that speak it are refused."""
_GRPC_STATUS_OF = {name: status for status, name in GRPC_CONDITIONS.items()}
_CONDITIONS = _IS_CONNECT_FAILURE | _NEVER | _STATUSES_OF.keys() | {_STATUSES} | _GRPC_STATUS_OF.keys()
_LEAST_BACKOFF = 0.001
"""Seconds; Envoy rounds less up to it, and refuses 0."""
_BACKOFF = Retry()
_MAX_BACKOFF_FACTOR = 10
"""retry_back_off.max_interval is so many times base_interval where it is not set."""


def write(action: route_components_pb2.RouteAction, retry: Retry | None) -> None:
    """Set the retry policy for ``retry``."""
    if retry is None:
        return
    conditions = []
    if retry.connect_failure or retry.reset:
        conditions.append(_CONNECT_FAILURE)
    if retry.reset:
        conditions.append(_RESET)
    if retry.statuses:
        conditions.append(_STATUSES)
    conditions += grpc_conditions(retry)
    policy = action.retry_policy
    policy.retry_on = ",".join(conditions)
    policy.num_retries.CopyFrom(number(retry.attempts))
    policy.retriable_status_codes.extend(retry.statuses)
    if retry.per_try_timeout:
        policy.per_try_timeout.CopyFrom(duration(retry.per_try_timeout))
    write_backoff(policy, retry)
    policy.host_selection_retry_max_attempts = _SELECTION_ATTEMPTS
    predicate = policy.retry_host_predicate.add(name=_PREVIOUS_HOSTS)
    predicate.typed_config.CopyFrom(pack(previous_hosts_pb2.PreviousHostsPredicate()))


def grpc_conditions(retry: Retry) -> list[str]:
    """The conditions that are gRPC statuses."""
    return [GRPC_CONDITIONS[status] for status in retry.grpc_statuses]


def write_backoff(policy: route_components_pb2.RetryPolicy, retry: Retry) -> None:
    """Set the waits, where they are not Envoy's own."""
    if (retry.backoff, retry.max_backoff) != (_BACKOFF.backoff, _BACKOFF.max_backoff):
        base = max(retry.backoff, _LEAST_BACKOFF)
        policy.retry_back_off.base_interval.CopyFrom(duration(base))
        policy.retry_back_off.max_interval.CopyFrom(duration(max(retry.max_backoff, base)))


def read(action: route_components_pb2.RouteAction, name: str, where: str) -> Retry | None:
    """The retries of an action, the field ``where`` in the resource ``name``. Raises UnsupportedError."""
    if not action.HasField("retry_policy"):
        return None
    policy = action.retry_policy
    where = f"{where}.retry_policy"
    only(
        policy,
        {"retry_on", "num_retries", "retry_host_predicate", "host_selection_retry_max_attempts",
         "per_try_timeout", "retriable_status_codes", "retry_back_off"},
        name,
        where,
    )  # fmt: skip
    conditions = _conditions(policy.retry_on, name, f"{where}.retry_on")
    statuses = set(policy.retriable_status_codes) if _STATUSES in conditions else set()
    if any(not 200 <= status <= 599 for status in statuses):
        raise UnsupportedError(name, f"{where}.retriable_status_codes", "must be from 200 to 599")
    for condition in conditions & _STATUSES_OF.keys():
        statuses.update(_STATUSES_OF[condition])
    # Envoy's default number is 1 (RetryPolicy.num_retries).
    attempts = wrapped(policy, "num_retries", 1)
    # Where nothing is sent again, no matter where it would have gone.
    if attempts and conditions - _NEVER:
        _other_hosts(policy, name, f"{where}.retry_host_predicate")
    backoff, max_backoff = _backoff(policy, name, f"{where}.retry_back_off")
    return Retry(
        attempts=attempts,
        connect_failure=bool(conditions & _IS_CONNECT_FAILURE),
        reset=bool(conditions & _IS_RESET),
        statuses=tuple(sorted(statuses)),
        grpc_statuses=tuple(sorted(_GRPC_STATUS_OF[each] for each in conditions & _GRPC_STATUS_OF.keys())),
        per_try_timeout=seconds(policy, "per_try_timeout", 0.0),
        backoff=backoff,
        max_backoff=max_backoff,
    )


def _conditions(text: str, name: str, where: str) -> set[str]:
    conditions = {each.strip() for each in text.split(",")} - {""}
    for unknown in sorted(conditions - _CONDITIONS):
        raise UnsupportedError(name, where, f"{unknown} is not supported")
    return conditions


def _other_hosts(policy: route_components_pb2.RetryPolicy, name: str, where: str) -> None:
    """A request goes to hosts that it has not been to, where there are any: refuse other wishes."""
    if [predicate.name for predicate in policy.retry_host_predicate] != [_PREVIOUS_HOSTS]:
        raise UnsupportedError(name, where, f"only {_PREVIOUS_HOSTS}")


def _backoff(policy: route_components_pb2.RetryPolicy, name: str, where: str) -> tuple[float, float]:
    if not policy.HasField("retry_back_off"):
        return _BACKOFF.backoff, _BACKOFF.max_backoff
    base = seconds(policy.retry_back_off, "base_interval", 0.0)
    most = seconds(policy.retry_back_off, "max_interval", base * _MAX_BACKOFF_FACTOR)
    if base <= 0:
        raise UnsupportedError(name, f"{where}.base_interval", "must be above 0")
    if most < base:
        raise UnsupportedError(name, f"{where}.max_interval", "must not be below base_interval")
    return base, most
