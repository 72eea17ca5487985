"""Mirror and its xDS counterpart, request_mirror_policies.

Envoy appends "-shadow" to a mirrored request's Host, as our proxy does.
"""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2

from meshd.model.request_policies import MILLION, Mirror
from meshd.xds import shares
from meshd.xds.unsupported import UnsupportedError, only

_Policy = route_components_pb2.RouteAction.RequestMirrorPolicy


def write(models: tuple[Mirror, ...]) -> list[route_components_pb2.RouteAction.RequestMirrorPolicy]:
    """The policies, one for each mirror."""
    return [
        _Policy(
            cluster=each.cluster,
            runtime_fraction=shares.runtime_fraction(each.share) if each.share != MILLION else None,
        )
        for each in models
    ]


def read(action: route_components_pb2.RouteAction, name: str, where: str) -> tuple[Mirror, ...]:
    """The reverse of ``write``. Raises UnsupportedError."""
    found = []
    for i, policy in enumerate(action.request_mirror_policies):
        here = f"{where}.request_mirror_policies[{i}]"
        only(policy, {"cluster", "runtime_fraction"}, name, here)
        if not policy.cluster:
            raise UnsupportedError(name, f"{here}.cluster", "must be set")
        share = MILLION
        if policy.HasField("runtime_fraction"):
            share = shares.read_runtime(policy.runtime_fraction, name, f"{here}.runtime_fraction")
        found.append(Mirror(cluster=policy.cluster, share=share))
    return tuple(found)
