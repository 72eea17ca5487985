"""Kubernetes objects to the config of the data plane, and to the account of each object."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from meshd.gateway import options, upstreams
from meshd.gateway.attached import Attached, RouteKey, attach_all
from meshd.gateway.endpoints import SERVICE_NAME, endpoint_set
from meshd.gateway.listeners import listener
from meshd.gateway.policies import Policies, attach
from meshd.gateway.references import Backends
from meshd.gateway.shaping import Shaping
from meshd.kube.collection import Objects
from meshd.kube.httproute import HTTPRoute
from meshd.kube.objects import EndpointSlice, Key, Service
from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import RouteConfig
from meshd.model.snapshot import Snapshot
from meshd.model.status import ConfigStatus, ObjectStatus, ParentStatus, Problem, Severity


@dataclass(frozen=True, slots=True)
class Translation:
    """One version of everything."""

    snapshot: Snapshot
    status: ConfigStatus
    accepted: Mapping[RouteKey, HTTPRoute]
    """Pass it to the next translation: what stays in force of routes that are not accepted then."""


@dataclass(slots=True)
class _Build:
    """The snapshot in the making."""

    attached: Attached
    policies: Policies
    shaping: Shaping
    listeners: dict[str, Listener] = field(default_factory=dict)
    route_configs: dict[str, RouteConfig] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    endpoints: dict[str, EndpointSet] = field(default_factory=dict)
    owners: dict[tuple[str, int], str] = field(default_factory=dict)
    """Which listener has an address and port."""
    useful: dict[str, bool] = field(default_factory=dict)
    """By the RoutePolicies for ports: whether any of these is captured and speaks HTTP."""


def translate(objects: Objects, last_accepted: Mapping[RouteKey, HTTPRoute]) -> Translation:
    """Translate all objects. Deterministic: the same objects come to an equal snapshot."""
    services = objects.services
    policies = attach(objects)
    shaping = Shaping(services, policies)
    backends = Backends(services, tuple(objects.grants.values()))
    attached = attach_all(objects.routes, last_accepted, backends, shaping)
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for (namespace, _), slice_ in objects.slices.items():
        owner = slice_.metadata.labels.get(SERVICE_NAME)
        if owner:
            slices.setdefault((namespace, owner), []).append(slice_)
    build = _Build(attached, policies, shaping)
    problems = {key: list(found) for key, found in objects.problems.items()}
    for (namespace, name), service in services.items():
        found = _service(build, service, slices.get((namespace, name), []))
        if found:
            problems.setdefault(Key("Service", namespace, name), []).extend(found)
    for (namespace, name), route_problems in attached.problems.items():
        problems.setdefault(Key("HTTPRoute", namespace, name), []).extend(route_problems)
    for key, policy_problems in policies.problems.items():
        problems.setdefault(key, []).extend(policy_problems)
    for key in policies.statuses:
        if not build.useful.get(str(key), True):
            message = "no Service's port that it is for is captured as HTTP: it does nothing there"
            found = [Problem(field="spec.targetRefs", message=message, severity=Severity.WARNING)]
            problems.setdefault(key, []).extend(found)
    parents = policies.statuses | {Key("HTTPRoute", *key): found for key, found in attached.parents.items()}
    snapshot = Snapshot(0, build.listeners, build.route_configs, build.clusters, build.endpoints)
    return Translation(snapshot, _status(objects, parents, problems), attached.accepted)


def _addresses(service: Service) -> tuple[str, ...]:
    given = service.spec.cluster_ips or (service.spec.cluster_ip,)
    return tuple(str(ipaddress.ip_address(address)) for address in given if address not in ("", "None"))


def _service(build: _Build, service: Service, slices: list[EndpointSlice]) -> list[Problem]:
    """Put a service's ports into the snapshot. Returns what is wrong with it."""
    spec = service.spec
    if spec.type == "ExternalName":
        return []
    key = service.metadata.namespace, service.metadata.name
    said, problems = options.service_options(service)
    addresses = _addresses(service)
    if not addresses and spec.cluster_ip != "None" and spec.ports:
        message = "has no address, so nothing is captured for it; set it, or have it set by the cluster"
        problems.append(Problem(field="spec.clusterIP", message=message, severity=Severity.WARNING))
    for i, port in enumerate(spec.ports):
        if port.protocol != "TCP":
            continue
        cluster = upstreams.cluster(service, port, build.policies)
        name = cluster.name
        build.clusters[name] = cluster
        check = cluster.health_check
        # In xDS the port that is probed is each endpoint's affair.
        build.endpoints[name] = endpoint_set(name, service, port, slices, check.port if check else 0)
        policies = build.policies.port(key, port.name)
        problems += [p for p in options.overridden(service, policies) if p not in problems]
        free = tuple(a for a in addresses if build.owners.setdefault((a, port.port), name) == name)
        for address in addresses:
            if address not in free:
                other = build.owners[address, port.port]
                message = f"{address} port {port.port} belongs to {other} already; that one is served"
                problems.append(Problem(field=f"spec.ports[{i}].port", message=message))
        for policy in policies.names:
            build.useful.setdefault(policy, False)
        if not free:
            continue
        routes = build.attached.routes((key, port.port))
        found, configs = listener(service, port, free, routes, policies, build.shaping, said)
        build.listeners[name] = found
        problems += upstreams.session_affinity(service, port, found.protocol, build.policies)
        build.route_configs.update((config.name, config) for config in configs)
        if found.protocol is Protocol.HTTP:
            build.useful.update(dict.fromkeys(policies.names, True))
    return problems


def _status(
    objects: Objects, parents: Mapping[Key, tuple[ParentStatus, ...]], problems: dict[Key, list[Problem]]
) -> ConfigStatus:
    generations = {key: found.metadata.generation for key, found in objects.by_key.items()}
    keys = {key for key, found in problems.items() if found}
    keys |= parents.keys()
    return ConfigStatus(
        objects=tuple(
            ObjectStatus(
                kind=key.kind,
                namespace=key.namespace,
                name=key.name,
                source=objects.sources.get(key, key.name if key.kind == "File" else ""),
                generation=generations.get(key, 0),
                parents=parents.get(key, ()),
                problems=tuple(problems.get(key, ())),
            )
            for key in sorted(keys)
        )
    )
