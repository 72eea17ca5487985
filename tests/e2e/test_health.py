"""Agent, workers and kernel together: ejection and limits, over two workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import msgspec

from meshd.model.cluster_policies import Limits, Outlier
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.snapshot import Delta
from tests.support.http_bed import (
    SERVICE_PORT,
    VIP,
    Server,
    config,
    eventually,
    get,
    ok,
    read_response,
    request_heads,
)
from tests.support.mesh_node import MeshNode
from tests.support.netns import Namespace, namespace

POD = "10.244.0.5"
PORT = 8080
ADDRESSES = ("10.244.1.1", "10.244.1.2")
SECONDS = 90.0
ERROR = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"


class App:
    """A server that is well, or not, or takes its time."""

    def __init__(self) -> None:
        self.well = True
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def script(self, sock: socket.socket) -> None:
        for _ in request_heads(sock):
            self.asked += 1
            assert self.may_answer.wait(SECONDS)
            sock.sendall(ok() if self.well else ERROR)


def _delta(cluster: Cluster) -> Delta:
    delta = config((), cluster=cluster)
    endpoints = tuple(Endpoint(address=address, port=PORT) for address in ADDRESSES)
    return msgspec.structs.replace(delta, endpoints=(EndpointSet(name="web", endpoints=endpoints),))


@contextlib.contextmanager
def _node(cluster: Cluster) -> Iterator[tuple[MeshNode, Callable[[], socket.socket], list[App]]]:
    """A node with two workers and one pod, in which the servers are, too; how to connect from there."""
    with contextlib.ExitStack() as stack:
        pod = stack.enter_context(namespace())
        for address in (POD, *ADDRESSES):
            pod.ip("address", "add", f"{address}/32", "dev", "lo")
        pod.ip("route", "add", "default", "dev", "lo")
        apps = [App() for _ in ADDRESSES]
        with pod.entered():
            for app, address in zip(apps, ADDRESSES, strict=True):
                stack.callback(Server(app.script, address, PORT).close)
        for app in apps:
            stack.callback(app.may_answer.set)
        # There is no control plane: the agent goes on with what one before it had.
        node = stack.enter_context(
            MeshNode(
                "unix:/nowhere", "--workers", "2", "--fast-path", "on", kept=_delta(cluster), seconds=60.0
            )
        )
        node.enrol("client", pod.path, POD)
        node.wait_for_services(["default/web:80"])
        yield node, lambda: _connect(pod), apps


def _connect(pod: Namespace) -> socket.socket:
    with pod.entered():
        return socket.create_connection((VIP, SERVICE_PORT), SECONDS)


def _status(connect: Callable[[], socket.socket]) -> int:
    with connect() as client:
        client.sendall(get())
        return int(read_response(client)[0][9:12])


def test_who_answers_500_is_ejected_on_the_node_and_comes_back() -> None:
    policy = Outlier(consecutive_5xx=3, interval=0.2, ejection_time=0.4)
    with _node(Cluster(name="web", outlier=policy)) as (node, connect, (sick, well)):
        sick.well = False

        def is_ejected() -> bool:
            _status(connect)
            found = [each for each in node.endpoints() if each.by]
            return [(each.address, each.by) for each in found] == [(ADDRESSES[0], "ejection")]

        eventually(is_ejected, SECONDS)
        ejections = node.status().health.ejections
        assert set(ejections) == {"consecutive_5xx"}
        sick.well = True

        def is_back() -> bool:
            before = sick.asked
            assert _status(connect) in (200, 500)
            return sick.asked > before and not any(each.by for each in node.endpoints())

        eventually(is_back, SECONDS)
        asked = sick.asked, well.asked
        eventually(
            lambda: _status(connect) == 200 and sick.asked > asked[0] and well.asked > asked[1], SECONDS
        )
        assert "endpoint left out" in node.log()
        assert "endpoint taken back" in node.log()


def test_limits_are_the_nodes_and_a_dead_worker_has_nothing_out() -> None:
    with _node(Cluster(name="web", limits=Limits(requests=1))) as (node, connect, apps):
        for app in apps:
            app.may_answer.clear()
        with connect() as holder:
            holder.sendall(get())
            eventually(lambda: sum(app.asked for app in apps) == 1, SECONDS)
            # Whichever of the two workers accepts them.
            assert {_status(connect) for _ in range(40)} == {503}
            assert sum(app.asked for app in apps) == 1
            assert node.status().loads["web"]["requests"] == 1
            for app in apps:
                app.may_answer.set()
            assert read_response(holder)[0].startswith(b"HTTP/1.1 200 ")
        assert _status(connect) == 200

        for app in apps:
            app.may_answer.clear()
        with connect() as holder:
            holder.sendall(get())
            eventually(lambda: node.status().loads["web"]["requests"] == 1, SECONDS)
            for pid in node.worker_pids():
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: node.status().loads["web"]["requests"] == 0, SECONDS)
        for app in apps:
            app.may_answer.set()
        node.wait_for_services(["default/web:80"])
        eventually(lambda: _status(connect) == 200, SECONDS)
