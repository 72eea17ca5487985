"""Which fields of an object nobody knows: misspelt ones, which would otherwise do nothing in silence."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec

from meshd.kube import httproute, objects, routepolicy, upstreampolicy

_UNREAD: dict[type, frozenset[str]] = {
    objects.ObjectMeta: frozenset({
        "uid", "resourceVersion", "generateName", "selfLink", "managedFields", "finalizers",
        "ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds",
    }),
    objects.Namespace: frozenset({"spec", "status"}),
    objects.Pod: frozenset({"spec", "status"}),
    objects.Service: frozenset({"status"}),
    objects.ServiceSpec: frozenset({
        "selector", "externalIPs", "externalName", "externalTrafficPolicy", "healthCheckNodePort",
        "ipFamilies", "ipFamilyPolicy", "loadBalancerIP", "loadBalancerSourceRanges", "loadBalancerClass",
        "allocateLoadBalancerNodePorts", "sessionAffinityConfig",
    }),
    objects.ServicePort: frozenset({"targetPort", "nodePort"}),
    objects.SliceEndpoint: frozenset({"hostname", "deprecatedTopology"}),
    objects.SlicePort: frozenset({"appProtocol"}),
    objects.ObjectReference: frozenset({"apiVersion", "uid", "resourceVersion", "fieldPath"}),
    httproute.HTTPRoute: frozenset({"status"}),
    httproute.HTTPRouteSpec: frozenset({"useDefaultGateways"}),
    upstreampolicy.UpstreamPolicy: frozenset({"status"}),
    routepolicy.RoutePolicy: frozenset({"status"}),
}  # fmt: skip
"""Fields that the API has and the mesh does not read, for they say nothing about what it does."""
_ROOT = frozenset({"apiVersion", "kind"})


def unknown(raw: object, read: type, where: str = "") -> Iterator[str]:
    """Paths of the fields in ``raw`` that the API behind ``read`` does not have."""
    yield from _walk(raw, _type_info(read), where, _ROOT)


@functools.cache
def _type_info(read: type) -> msgspec.inspect.Type:
    """Costs as much as reading a manifest, and there are few types."""
    return msgspec.inspect.type_info(read)


def _walk(
    raw: object, info: msgspec.inspect.Type, where: str, also: frozenset[str] = frozenset()
) -> Iterator[str]:
    if isinstance(info, msgspec.inspect.Metadata):
        yield from _walk(raw, info.type, where)
    elif isinstance(info, msgspec.inspect.UnionType):
        for member in info.types:
            if isinstance(member, msgspec.inspect.StructType):
                yield from _walk(raw, member, where)
    elif isinstance(info, msgspec.inspect.VarTupleType) and isinstance(raw, list):
        for i, item in enumerate(raw):
            yield from _walk(item, info.item_type, f"{where}[{i}]")
    elif isinstance(info, msgspec.inspect.StructType) and isinstance(raw, dict):
        fields = {f.encode_name: f.type for f in info.fields}
        for name, value in raw.items():
            path = f"{where}.{name}" if where else str(name)
            if name in fields:
                yield from _walk(value, fields[name], path)
            elif name not in _UNREAD.get(info.cls, ()) and name not in also:
                yield path
