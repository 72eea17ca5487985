"""Translation in steps comes to the same as translation of all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.gateway.incremental import Translator
from meshd.gateway.translate import translate
from meshd.kube.collection import Collection
from meshd.kube.grpcroute import RequestRoute
from meshd.kube.objects import Key
from meshd.kube.routepolicy import GROUPS
from meshd.model.snapshot import Delta, Snapshot
from meshd.model.status import ObjectStatus
from tests.gateway.manifests import call, endpoint_slice, grpc_route, http_route, rule, service

SERVICES = ("a", "b", "c")
Object = Mapping[str, object]


def _service(name: str, address: int) -> Object:
    return service(name, {"port": 80, "appProtocol": "http"}, ip=f"10.96.0.{address}")


def _slice(name: str, address: int) -> Object:
    return endpoint_slice(name, {"addresses": [f"10.1.0.{address}"]})


def _route(name: str, parent: str, backend: str, namespace: str, prefix: str) -> Object:
    ref = {"group": "", "kind": "Service", "name": parent, "namespace": "default"}
    to = {"name": backend, "namespace": "default", "port": 80}
    fields: dict[str, Any] = {"name": name, "namespace": namespace, "parentRefs": [ref]}
    if prefix == "call":
        return grpc_route(call(backendRefs=[to]), **fields)
    return http_route(rule(prefix, backendRefs=[to]), **fields)


def _grant(source: str) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "grant"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": source}],
            "to": [{"group": "", "kind": "Service"}],
        },
    }


def _policy(kind: str, name: str, targets: list[tuple[str, str]], created: int) -> Object:
    specs: dict[str, Object] = {
        "UpstreamPolicy": {"loadBalancing": {"type": "Random"}, "healthCheck": {"tcp": {}}},
        "RoutePolicy": {"fault": {"abort": {"status": 503}}},
    }
    refs = [{"group": GROUPS[to], "kind": to, "name": target} for to, target in targets]
    return {
        "apiVersion": "meshd.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "creationTimestamp": f"2026-01-0{created}T00:00:00Z"},
        "spec": {"targetRefs": refs, **specs[kind]},
    }


NAMES = st.sampled_from(SERVICES)
OBJECTS = st.one_of(
    st.builds(_service, NAMES, st.integers(1, 3)),
    st.builds(_slice, NAMES, st.integers(1, 3)),
    st.builds(
        _route, st.sampled_from("rs"), NAMES, NAMES, st.sampled_from(("default", "other")),
        st.sampled_from(("/", "/x", "bad", "call")),
    ),
    st.builds(_grant, st.sampled_from(("other", "nobody"))),
    st.builds(
        _policy, st.just("UpstreamPolicy"), st.sampled_from("pq"),
        st.lists(st.tuples(st.just("Service"), NAMES), min_size=1, max_size=2, unique=True),
        st.integers(1, 2),
    ),
    st.builds(
        _policy, st.just("RoutePolicy"), st.sampled_from("pq"),
        st.lists(
            st.one_of(
                st.tuples(st.just("Service"), NAMES),
                st.tuples(st.sampled_from(("HTTPRoute", "GRPCRoute")), st.sampled_from("rs")),
            ),
            min_size=1, max_size=2, unique=True,
        ),
        st.integers(1, 2),
    ),
)  # fmt: skip
EDITS = st.tuples(st.sampled_from("wxyz"), st.one_of(st.none(), st.lists(OBJECTS, max_size=3)))
"""A file, and what it holds from now on; None: it is gone."""


@settings(max_examples=150)
@given(st.lists(EDITS, min_size=1, max_size=8))
def test_steps_come_to_the_same_as_all_at_once(edits: list[tuple[str, list[Object] | None]]) -> None:
    collection, translator = Collection(), Translator()
    files: dict[str, str] = {}
    snapshot = Snapshot()
    accepted: Mapping[Key, RequestRoute] = {}
    statuses: dict[Key, ObjectStatus] = {}
    for name, content in edits:
        files.pop(f"{name}.yaml", None)
        if content is not None:
            files[f"{name}.yaml"] = "---\n".join(json.dumps(item) + "\n" for item in content)
        objects = collection.update(files)
        whole = translate(objects, accepted)
        accepted = whole.accepted
        change = translator.update(objects)
        snapshot = snapshot.apply(change.config)
        for key in change.removed_statuses:
            del statuses[key]
        statuses |= {Key(each.kind, each.namespace, each.name): each for each in change.statuses}
        for kind in ("listeners", "route_configs", "clusters", "endpoints"):
            assert dict(getattr(snapshot, kind)) == dict(getattr(whole.snapshot, kind)), kind
        assert tuple(status for _, status in sorted(statuses.items())) == whole.status.objects
        assert translator.accepted == whole.accepted


def test_only_what_changed_is_said() -> None:
    collection, translator = Collection(), Translator()
    files = {f"{name}.yaml": json.dumps(_service(name, i)) for i, name in enumerate(SERVICES, 1)}
    first = translator.update(collection.update(files))
    assert len(first.config.listeners) == 3
    assert translator.update(collection.update(dict(files))).config.clusters == ()
    files["slice.yaml"] = json.dumps(_slice("b", 1))
    second = translator.update(collection.update(files)).config
    assert [each.name for each in second.endpoints] == ["default/b:80"]
    assert second == Delta(generation=0, endpoints=second.endpoints)
