"""Agent and two workers: a rate limit is the node's, and outlives who counted."""

from __future__ import annotations

import os
import signal
import socket

from meshd.model.request_policies import RateLimit, TokenBucket
from meshd.model.routes import DirectResponse, Route
from tests.support.http_bed import SERVICE_PORT, VIP, config, eventually, get, read_response
from tests.support.mesh_node import MeshNode
from tests.support.netns import Namespace, namespace

POD = "10.244.0.5"
SECONDS = 90.0
TOKENS = 25
LIMITED = Route(
    name="default/web/0",
    action=DirectResponse(status=200, body="hi"),
    rate_limit=RateLimit(all=TokenBucket(tokens=1, interval=86_400.0, burst=TOKENS)),
)


def _status(pod: Namespace) -> int:
    with pod.entered(), socket.create_connection((VIP, SERVICE_PORT), SECONDS) as client:
        client.sendall(get())
        return int(read_response(client)[0][9:12])


def test_a_limit_is_the_nodes_and_outlives_its_workers() -> None:
    with namespace() as pod:
        pod.ip("address", "add", f"{POD}/32", "dev", "lo")
        pod.ip("route", "add", "default", "dev", "lo")
        kept = config((), routes=(LIMITED,))
        with MeshNode("unix:/nowhere", "--workers", "2", kept=kept, seconds=60.0) as node:
            node.enrol("client", pod.path, POD)
            node.wait_for_services(["default/web:80"])
            # Whichever of the two workers accepts them.
            assert [_status(pod) for _ in range(60)].count(200) == TOKENS
            before = node.worker_pids()
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: len(set(node.worker_pids()) - set(before)) == 2, SECONDS)
            node.wait_for_services(["default/web:80"])
            # While no worker is there, a connect may fail open, to a service without an endpoint.
            eventually(lambda: _status_or_none(pod) == 429, SECONDS)
            assert {_status(pod) for _ in range(10)} == {429}


def _status_or_none(pod: Namespace) -> int | None:
    try:
        return _status(pod)
    except (OSError, EOFError):
        return None
