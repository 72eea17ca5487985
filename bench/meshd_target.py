"""meshd in the way: its agent, one proxy worker, and capture in the client pod, as on a node."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench import envoys
from bench.network import CLIENT_ADDRESS, SERVER_ADDRESS, VIP, Network
from bench.targets import SERVER_PORT, Target
from meshd.model.snapshot import Snapshot
from tests.support.ads_thread import AdsThread
from tests.support.mesh_node import MeshNode

_PORT = 80


@contextlib.contextmanager
def meshd(network: Network, directory: Path) -> Iterator[Target]:
    """The service's VIP, captured in the client pod and served by the slow path."""
    listener = envoys.listener_for(VIP, _PORT)
    endpoints = envoys.endpoints_at(SERVER_ADDRESS, SERVER_PORT)
    with AdsThread(directory / "ads.sock") as ads:
        ads.publish(
            Snapshot(
                1,
                {listener.name: listener},
                {envoys.ROUTES.name: envoys.ROUTES},
                {envoys.CLUSTER.name: envoys.CLUSTER},
                {endpoints.name: endpoints},
            )
        )
        with MeshNode(ads.target) as node:
            node.enrol("client", str(network.client.path), CLIENT_ADDRESS)
            node.wait_for_services({listener.name})
            yield Target("meshd", f"http://{VIP}:{_PORT}/", tuple(node.worker_pids()))
