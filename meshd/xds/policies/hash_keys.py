"""HashKey and its xDS counterpart, hash_policy.

Envoy joins the hashes of all policies up to the first terminal one that finds something. Here the first that
finds something decides, so all are terminal.
"""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2

from meshd.model.request_policies import HashCookie, HashHeader, HashKey, HashQuery, HashSource
from meshd.xds.packing import duration, seconds
from meshd.xds.unsupported import UnsupportedError, only

_Policy = route_components_pb2.RouteAction.HashPolicy


def write(models: tuple[HashKey, ...]) -> list[route_components_pb2.RouteAction.HashPolicy]:
    """The policies, in the keys' order."""
    return [_policy(each) for each in models]


def _policy(model: HashKey) -> route_components_pb2.RouteAction.HashPolicy:
    policy = _Policy(terminal=True)
    if isinstance(model, HashHeader):
        policy.header.header_name = model.name
    elif isinstance(model, HashCookie):
        policy.cookie.name, policy.cookie.path = model.name, model.path
        if model.ttl:
            policy.cookie.ttl.CopyFrom(duration(model.ttl))
    elif isinstance(model, HashQuery):
        policy.query_parameter.name = model.name
    else:
        policy.connection_properties.source_ip = True
    return policy


def read(action: route_components_pb2.RouteAction, name: str, where: str) -> tuple[HashKey, ...]:
    """The reverse of ``write``. Raises UnsupportedError."""
    last = len(action.hash_policy) - 1
    found = []
    for i, policy in enumerate(action.hash_policy):
        here = f"{where}.hash_policy[{i}]"
        found.append(_key(policy, name, here))
        if not policy.terminal and i != last:
            raise UnsupportedError(name, f"{here}.terminal", "only true: hashes are not joined")
    return tuple(found)


def _key(policy: route_components_pb2.RouteAction.HashPolicy, name: str, where: str) -> HashKey:
    only(
        policy,
        {"header", "cookie", "query_parameter", "connection_properties", "terminal"},
        name,
        where,
    )
    kind = policy.WhichOneof("policy_specifier")
    if kind == "header":
        only(policy.header, {"header_name"}, name, f"{where}.header")
        return HashHeader(name=policy.header.header_name.lower())
    if kind == "cookie":
        where = f"{where}.cookie"
        only(policy.cookie, {"name", "ttl", "path"}, name, where)
        if policy.cookie.HasField("ttl") and not seconds(policy.cookie, "ttl", 0.0):
            raise UnsupportedError(
                name, f"{where}.ttl", "must be above 0, or not set: no cookie is made then"
            )
        ttl = seconds(policy.cookie, "ttl", 0.0)
        return HashCookie(name=policy.cookie.name, path=policy.cookie.path, ttl=ttl)
    if kind == "query_parameter":
        only(policy.query_parameter, {"name"}, name, f"{where}.query_parameter")
        return HashQuery(name=policy.query_parameter.name)
    if kind == "connection_properties" and policy.connection_properties.source_ip:
        return HashSource()
    raise UnsupportedError(name, where, f"{kind or 'nothing'} is no key that is supported")
