"""RoutePolicies, and what UpstreamPolicies have to say of requests, put into routes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from meshd.gateway import options
from meshd.gateway.policies import Merged, Policies
from meshd.gateway.retries import policy_retry
from meshd.gateway.shares import parts_per_million
from meshd.gateway.upstreams import HashKeys, hash_keys, idle_timeouts
from meshd.kube import routepolicy as kube
from meshd.kube.duration import seconds
from meshd.kube.grpcroute import GrpcRule, RequestRule
from meshd.kube.objects import Key, Service
from meshd.kube.routepolicy import RoutePolicySpec
from meshd.model.request_policies import Fault, HashSource, RateLimit, StringMatch, TokenBucket
from meshd.model.routes import Action, DirectResponse, Forward, Route
from meshd.model.status import Problem, Severity
from meshd.model.tcp_routes import TcpRoute

PortKey = tuple[tuple[str, str], int]
"""A service's (namespace, name), and the port."""


class Shaping:
    """What is put into the routes of service ports."""

    def __init__(self, services: Mapping[tuple[str, str], Service], policies: Policies) -> None:
        self._policies = policies
        self._hash_keys = hash_keys(services, policies)
        self._idle_timeouts = idle_timeouts(services, policies)
        self._ports = {
            (key, port.port): (port.name, options.fast_path(service)[0])
            for key, service in services.items()
            for port in service.spec.ports
            if port.protocol == "TCP"
        }
        """The port's name, and what its Service's annotation says of the fast path."""

    def of_rule(self, found: Route, route: Key, rule: RequestRule, port: PortKey) -> Route:
        """A rule's route, given whose rule it is."""
        return self._shaped(found, self._policies.rule(route, rule.name), port, rule)

    def of_port(self, found: Route, port: PortKey) -> Route:
        """A route that nobody wrote."""
        return self._shaped(found, Merged(None), port, GrpcRule())

    def of_connections(self, found: TcpRoute) -> tuple[TcpRoute, list[Problem]]:
        """A route of connections, and what of its clusters' policies connections cannot have.

        Of several clusters the one that lets a connection wait longest decides.
        """
        problems = []
        for cluster in found.clusters:
            keys = self._hash_keys.get(cluster.name, ())
            if keys and HashSource() not in keys:
                message = (
                    f"connections to {cluster.name} have nothing that it is hashed by: they go anywhere; "
                    "a policy with hashOn SourceAddress would keep each caller's together"
                )
                problems.append(Problem(field="spec.rules", message=message, severity=Severity.WARNING))
        waits = [self._idle_timeouts.get(cluster.name, found.idle_timeout) for cluster in found.clusters]
        shaped = msgspec.structs.replace(
            found,
            idle_timeout=max(waits) if all(waits) else 0.0,
            hash_source=any(HashSource() in self._hash_keys.get(each.name, ()) for each in found.clusters),
        )
        return shaped, problems

    def _shaped(
        self, found: Route, rule: Merged[RoutePolicySpec], key: PortKey, written: RequestRule
    ) -> Route:
        name, fast_path = self._ports[key]
        port = self._policies.port(key[0], name)

        def first(field: str) -> object:
            own, other = getattr(rule.spec, field, None), getattr(port.spec, field, None)
            return other if own is None else own

        fault, response, fast = first("fault"), first("direct_response"), first("fast_path")
        timeouts, retry = first("timeouts"), first("retry")
        action = _hashed(found.action, self._hash_keys)
        if isinstance(action, Forward) and isinstance(timeouts, kube.Timeouts):
            action = _timed(action, timeouts, written)
        if isinstance(action, Forward) and isinstance(retry, kube.Retry) and written.retry is None:
            per_try = seconds(written.timeouts.backend_request)
            action = msgspec.structs.replace(action, retry=policy_retry(retry, per_try))
        if isinstance(response, kube.DirectResponse):
            action = DirectResponse(status=response.status, body=response.body)
        return msgspec.structs.replace(
            found,
            action=action,
            fault=_fault(fault) if isinstance(fault, kube.Fault) else None,
            # The port's own is for all its routes together.
            rate_limit=rate_limit(rule.spec.rate_limit) if rule.spec is not None else None,
            fast_path=fast_path if fast is None else fast == "Enabled",
            policies=tuple(dict.fromkeys((*rule.names, *port.names))),
        )


def _timed(action: Forward, policy: kube.Timeouts, written: RequestRule) -> Forward:
    """What a route says itself of its time comes before what a policy says."""
    if policy.request is not None and written.timeouts.request is None:
        action = msgspec.structs.replace(action, timeout=seconds(policy.request))
    if policy.grpc_deadline is not None:
        action = msgspec.structs.replace(action, deadline_limit=seconds(policy.grpc_deadline))
    return action


def _hashed(action: Action, hash_keys: HashKeys) -> Action:
    """Where clusters are hashed by different things, those of all count, in the clusters' order."""
    if not isinstance(action, Forward):
        return action
    keys = [key for cluster in action.clusters for key in hash_keys.get(cluster.name, ())]
    return msgspec.structs.replace(action, hash_keys=tuple(dict.fromkeys(keys))) if keys else action


def rate_limit(source: kube.RateLimit | None) -> RateLimit | None:
    """A rate limit as the model has it."""
    if source is None:
        return None
    return RateLimit(all=_bucket(source.all), each_client=_bucket(source.each_client))


def _bucket(source: kube.TokenBucket | None) -> TokenBucket | None:
    if source is None:
        return None
    return TokenBucket(
        tokens=source.requests,
        interval=seconds(source.interval),
        burst=source.requests if source.burst is None else source.burst,
    )


def _fault(source: kube.Fault) -> Fault:
    headers = tuple(
        StringMatch(name=each.name.lower(), value=each.value, regex=each.type == "RegularExpression")
        for each in source.headers
    )
    if source.by_header is not None:
        share = parts_per_million(source.by_header)
        return Fault(delay_share=share, abort_share=share, headers=headers, by_header=True)
    delay, abort = source.delay, source.abort
    return Fault(
        delay=seconds(delay.duration) if delay else 0.0,
        delay_share=parts_per_million(delay) if delay else 0,
        abort=abort.status if abort else 0,
        abort_share=parts_per_million(abort) if abort else 0,
        headers=headers,
    )
