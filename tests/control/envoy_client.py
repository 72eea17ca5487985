"""A real Envoy as a client of our ADS server: started, and seen to have what it was sent in force."""

from __future__ import annotations

import json
import time
from pathlib import Path

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.core.v3 import config_source_pb2

from meshd.model.snapshot import Snapshot
from tests.support import envoy
from tests.support.ads_thread import AdsThread

DEADLINE = 60.0


def dumped(peer: envoy.EnvoyProcess) -> dict[str, set[str]]:
    """Names of the dynamic resources that Envoy has in force, and of those it refused."""
    found: dict[str, set[str]] = {"refused": set()}
    for part in json.loads(peer.admin("/config_dump?include_eds") or "{}").get("configs", ()):
        for kind, key in (
            ("dynamic_active_clusters", "cluster"),
            ("dynamic_route_configs", "route_config"),
            ("dynamic_endpoint_configs", "endpoint_config"),
        ):
            for item in part.get(kind, ()):
                inner = item.get(key, {})
                found.setdefault(key, set()).add(inner.get("name") or inner.get("cluster_name", ""))
        for item in part.get("dynamic_listeners", ()):
            if "active_state" in item:
                found.setdefault("listener", set()).add(item["name"])
            if "error_state" in item:
                found["refused"].add(item["name"])
    return found


def bootstrap(socket: Path, delta: bool) -> bootstrap_pb2.Bootstrap:
    message = envoy.with_ads(envoy.bootstrap("mt-envoy"), socket)
    if delta:
        kinds = config_source_pb2.ApiConfigSource
        message.dynamic_resources.ads_config.api_type = kinds.DELTA_GRPC
    return message


def until_in_force(peer: envoy.EnvoyProcess, ads: AdsThread, snapshot: Snapshot) -> None:
    """Wait until Envoy has exactly a snapshot's resources in force, and refuses none."""
    wanted = {
        "cluster": set(snapshot.clusters),
        "endpoint_config": set(snapshot.endpoints),
        "listener": set(snapshot.listeners),
        "refused": set[str](),
    }
    end = time.monotonic() + DEADLINE
    while True:
        found = dumped(peer)
        # A listener that goes keeps its routes while it drains, for minutes.
        routes = found.pop("route_config", set())
        if {
            **{kind: set() for kind in wanted},
            **found,
        } == wanted and routes >= snapshot.route_configs.keys():
            break
        assert time.monotonic() < end, (found, wanted, ads.rejections(), peer.log())
        time.sleep(0.02)
    assert ads.rejections() == []
