"""Limits and their xDS counterpart, the circuit breakers' thresholds.

Here 0 is "no limit"; on the wire that is the greatest number, as Istio writes it. What a server leaves unset
is no limit, either, though Envoy's defaults are 1,024 (and 3 retries): those are meant for one workload's
sidecar, and a node's proxy would refuse by them what nobody asked to be refused.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import circuit_breaker_pb2
from envoy.config.core.v3 import base_pb2
from envoy.type.v3 import percent_pb2

from meshd.model.cluster_policies import Limits
from meshd.xds.packing import number, wrapped
from meshd.xds.unsupported import UnsupportedError, only

_NONE = 2**32 - 1
_BUDGET_PERCENT = 20.0
"""RetryBudget.budget_percent where it is not set."""
_FIELDS = ("max_connections", "max_pending_requests", "max_requests", "max_retries")


def write(model: Limits) -> circuit_breaker_pb2.CircuitBreakers:
    """The thresholds of all requests: none has another priority."""
    message = circuit_breaker_pb2.CircuitBreakers()
    values = (model.connections, model.pending, model.requests, model.retries)
    thresholds = message.thresholds.add(
        **{field: number(value or _NONE) for field, value in zip(_FIELDS, values, strict=True)}
    )
    if model.retry_budget_percent:
        thresholds.retry_budget.budget_percent.CopyFrom(percent_pb2.Percent(value=model.retry_budget_percent))
        thresholds.retry_budget.min_retry_concurrency.CopyFrom(number(model.retry_budget_min))
    return message


def read(message: circuit_breaker_pb2.CircuitBreakers, name: str, where: str) -> Limits:
    """The reverse of ``write``. Raises UnsupportedError."""
    only(message, {"thresholds"}, name, where)
    if not message.thresholds:
        return Limits()
    where = f"{where}.thresholds"
    if len(message.thresholds) != 1:
        raise UnsupportedError(name, where, "only one: all requests have the default priority")
    thresholds, where = message.thresholds[0], f"{where}[0]"
    only(thresholds, {"priority", "retry_budget", "track_remaining", *_FIELDS}, name, where)
    if thresholds.priority != base_pb2.DEFAULT:
        raise UnsupportedError(name, f"{where}.priority", "only DEFAULT")
    values = {}
    for field in _FIELDS:
        value = wrapped(thresholds, field, _NONE)
        if not value:
            raise UnsupportedError(name, f"{where}.{field}", "must be above 0: nothing could pass")
        values[field] = 0 if value == _NONE else value
    percent, least = _budget(thresholds, name, f"{where}.retry_budget")
    return Limits(
        connections=values["max_connections"],
        pending=values["max_pending_requests"],
        requests=values["max_requests"],
        retries=values["max_retries"],
        retry_budget_percent=percent,
        retry_budget_min=least,
    )


def _budget(
    thresholds: circuit_breaker_pb2.CircuitBreakers.Thresholds, name: str, where: str
) -> tuple[float, int]:
    default = Limits().retry_budget_min
    if not thresholds.HasField("retry_budget"):
        return 0.0, default
    budget = thresholds.retry_budget
    only(budget, {"budget_percent", "min_retry_concurrency"}, name, where)
    percent = budget.budget_percent.value if budget.HasField("budget_percent") else _BUDGET_PERCENT
    if not 0 < percent <= 100:
        raise UnsupportedError(name, f"{where}.budget_percent", "must be above 0, up to 100")
    return percent, wrapped(budget, "min_retry_concurrency", default)
