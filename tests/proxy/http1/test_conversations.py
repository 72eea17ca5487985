"""Conversations that nobody thought of: with the kernel in the way, both ends see what they see without.

``MESHD_CONVERSATIONS``: how many are generated.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshd.datapath.datapath import Datapath
from meshd.model.clusters import Endpoint, EndpointSet
from meshd.model.routes import Forward, PathPrefix, Route, RouteConfig, RouteMatch
from meshd.model.snapshot import Delta
from tests.datapath.mesh import PORT, Mesh
from tests.proxy.http1.ways import FastPath, Plain, ok
from tests.support import route_configs
from tests.support.http_bed import Bed, Script, Server
from tests.support.netns import namespace
from tests.support.route_configs import CLUSTERS, LISTENER, to

EXAMPLES = int(os.environ.get("MESHD_CONVERSATIONS", "120"))
QUIET_SECONDS = 0.05
"""In which the answer to a request that nobody may see as one has come, or else comes at the end."""
PATIENCE_SECONDS = 60.0
_OWN = re.compile(rb"^(date|x-request-id): [^\r]*\r\n", re.IGNORECASE | re.MULTILINE)
"""What differs from run to run."""
_LEAST_CARRIED = 25
_CHUNKED = b"Transfer-Encoding: chunked"


def comparable(data: bytes) -> bytes:
    return _OWN.sub(b"", data)


class Servers:
    """The clusters' servers, that keep what came, in its order."""

    def __init__(self) -> None:
        self._seen: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()

    def script(self, name: str) -> Script:
        def converse(sock: socket.socket) -> None:
            data = b""
            while True:
                request, data = _request(sock, data)
                with self._lock:
                    self._seen.append((name, comparable(request)))
                if not _answer(sock, request):
                    return

        return converse

    def take(self) -> list[tuple[str, bytes]]:
        """What came since the last time."""
        with self._lock:
            seen, self._seen = self._seen, []
        return seen


def _request(sock: socket.socket, data: bytes) -> tuple[bytes, bytes]:
    """A whole request, its body without its chunks' lengths, and what came after it. Raises EOFError."""

    def more() -> None:
        nonlocal data
        piece = sock.recv(65536)
        if not piece:
            raise EOFError
        data += piece

    while b"\r\n\r\n" not in data:
        more()
    head, _, data = data.partition(b"\r\n\r\n")
    body = b""
    if b"\ntransfer-encoding: chunked" in head.lower():
        while True:
            while b"\r\n" not in data:
                more()
            line, _, data = data.partition(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            while len(data) < size + 2:
                more()
            body, data = body + data[:size], data[size + 2 :]
        while True:
            while b"\r\n" not in data:
                more()
            line, _, data = data.partition(b"\r\n")
            if not line:
                break
            head += b"\r\ntrailer: " + line
    else:
        _, found, length = head.lower().partition(b"\ncontent-length: ")
        size = int(length.split(b"\r\n")[0]) if found else 0
        while len(data) < size:
            more()
        body, data = data[:size], data[size:]
    return head + b"\r\n\r\n" + body, data


def _answer(sock: socket.socket, request: bytes) -> bool:
    """An answer of a form that follows from the request; False: the connection ends."""
    line = request.split(b"\r\n")[0]
    form = zlib.crc32(line) % 8
    body = b"" if line.startswith(b"HEAD") else b"<%b>" % line
    if form == 0:  # no date: not the kernel's
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(line) + 2, body))
    elif form == 1 and body:
        sock.sendall(b"HTTP/1.1 200 OK\r\nDate: now\r\n%b\r\n\r\n" % _CHUNKED)
        sock.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    elif form == 2:
        sock.sendall(ok(body, b"Connection: close") if body else ok(b"", b"Connection: close"))
        return False
    elif form == 3:
        sock.sendall(b"HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n")
    else:
        sock.sendall(b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: %d\r\n\r\n" % (len(line) + 2) + body)
    return True


class Beds:
    """The proxy by itself, and the proxy with the kernel, in front of the same servers."""

    def __init__(self, plain: Bed, fast: Bed, servers: Servers, ports: dict[str, int]) -> None:
        self._beds = {"proxy": plain, "kernel": fast}
        self._servers = servers
        self._ports = ports
        self._generation = itertools.count(2)

    def configure(self, routes: RouteConfig) -> None:
        delta = _delta(routes, self._ports, next(self._generation))
        for bed in self._beds.values():
            bed.apply(delta)

    def both(self, conversation: Conversation) -> dict[str, tuple[list[bytes], list[tuple[str, bytes]]]]:
        """What the client got to each of its messages, and what the servers saw, both ways."""
        return {way: self._converse(bed, conversation) for way, bed in self._beds.items()}

    def _converse(self, bed: Bed, conversation: Conversation) -> tuple[list[bytes], list[tuple[str, bytes]]]:
        with bed.connect() as client:
            self._servers.take()
            got = conversation.run(client)
        return got, self._servers.take()


def _delta(routes: RouteConfig, ports: dict[str, int], generation: int) -> Delta:
    return Delta(
        generation=generation,
        listeners=(msgspec.structs.replace(LISTENER, cluster="a"),),
        route_configs=(routes,),
        clusters=tuple(CLUSTERS.values()),
        endpoints=tuple(
            EndpointSet(name=name, endpoints=(Endpoint(address="127.0.0.1", port=port),))
            for name, port in ports.items()
        ),
    )


@dataclass(frozen=True)
class Conversation:
    """What a client sends: messages, each in pieces; it reads the answers after each message."""

    messages: tuple[tuple[bytes, ...], ...]
    ends: str = "closes"
    """How it ends: closes, half-closes, resets."""
    certain: bool = True
    """It is clear how many requests each message has."""

    def run(self, client: socket.socket) -> list[bytes]:
        """The answers to each message."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = []
        for pieces in self.messages:
            try:
                for index, piece in enumerate(pieces):
                    if index:
                        time.sleep(0.001)
                    client.sendall(piece)
            except ConnectionError:
                pass  # it was answered, and closed, before its end
            got.append(comparable(_all_answers(client, b"".join(pieces), self.certain)))
        if self.ends == "half-closes":
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
            got.append(comparable(_all_answers(client, b"", False, PATIENCE_SECONDS)))
        elif self.ends == "resets":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return got


def _all_answers(client: socket.socket, message: bytes, certain: bool, quiet: float = QUIET_SECONDS) -> bytes:
    """All that comes as answers to a message; where it is not ``certain`` how many, until nothing comes."""
    methods = [line.split(b" ")[0] for line in message.split(b"\r\n") if line.endswith(b" HTTP/1.1")]
    data = b""
    client.settimeout(PATIENCE_SECONDS if certain else quiet)
    while not methods or _answers(data, methods) < len(methods):
        try:
            piece = client.recv(65536)
        except TimeoutError:
            return data + (b"(nothing more)" if certain else b"")
        except ConnectionError:
            return data + b"(reset)"
        if not piece:
            return data + b"(end)"
        data += piece
    return data


def _answers(data: bytes, methods: list[bytes]) -> int:
    """Whole answers in ``data``."""
    for count, method in enumerate(methods):
        head, found, data = data.partition(b"\r\n\r\n")
        lower = head.lower() + b"\r\n"
        if not found:
            return count
        if method == b"HEAD" or b" 204 " in head.split(b"\r\n")[0]:
            continue
        if b"\r\ntransfer-encoding: chunked\r\n" in lower:
            _, found, data = data.partition(b"\r\n0\r\n\r\n")
            if not found:
                return count
            continue
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", lower)
        size = int(length[1]) if length else 0
        if len(data) < size:
            return count
        data = data[size:]
    return len(methods)


@pytest.fixture(scope="module")
def beds(datapath: Datapath) -> Iterator[Beds]:
    """One pair for all conversations: each puts its own routes in force."""
    servers = Servers()
    with namespace() as pod, Mesh(datapath, pod) as mesh, contextlib.ExitStack() as stack:
        datapath.set_member(pod.cookie, PORT, ipv6=True, fast_path=True)
        with pod.entered():
            fast = FastPath(mesh)
            running: dict[str, Server] = {
                name: stack.enter_context(fast.server(servers.script(name))) for name in CLUSTERS
            }
            ports = {name: server.port for name, server in running.items()}
            first = _delta(route_configs.config(Route(name="first", action=to("a"))), ports, 1)
            plain = stack.enter_context(Plain().bed(first))
            kernel = stack.enter_context(fast.bed(first))
            yield Beds(plain, kernel, servers, ports)
    assert fast.requests > _LEAST_CARRIED, f"the kernel carried {fast.requests} requests"


def _certain(route: Route) -> Route:
    """The route with one cluster at most that gets requests: what is drawn by lot cannot be compared."""
    action = route.action
    if not isinstance(action, Forward):
        return route
    first = next((share for share in action.clusters if share.weight), None)
    shares = tuple(share for share in action.clusters if share is first or not share.weight)
    return msgspec.structs.replace(route, action=msgspec.structs.replace(action, clusters=shares))


def _certain_config(config: RouteConfig) -> RouteConfig:
    (host,) = config.virtual_hosts
    return route_configs.config(*(_certain(route) for route in host.routes))


@st.composite
def _requests(draw: st.DrawFn, bodies: bool) -> bytes:
    method, path, query, fields = draw(route_configs.requests)
    target = path if query is None else f"{path}?{query}"
    lines = [f"{method} {target} HTTP/1.1", "Host: web", *(f"{name}: {value}" for name, value in fields)]
    several = (b"", b"", b"", b"x", b"GET / HTTP/1.0\r\n\r\n", b"y" * 5000)
    body = draw(st.sampled_from(several if bodies else (b"",)))
    framing = draw(st.sampled_from(("length", "length", "chunked"))) if body else ""
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@st.composite
def _messages(draw: st.DrawFn, cut_bodies: bool) -> tuple[bytes, ...]:
    """One request or several in a row, cut anywhere."""
    cuts = draw(st.sampled_from((0, 0, 0, 2)))
    requests = _requests(cut_bodies or not cuts)
    whole = b"".join(draw(st.lists(requests, min_size=1, max_size=draw(st.sampled_from((1, 1, 1, 1, 3))))))
    at = sorted(draw(st.sets(st.integers(1, len(whole) - 1), max_size=cuts)))
    return tuple(whole[start:end] for start, end in itertools.pairwise((0, *at, len(whole))))


@st.composite
def _conversations(draw: st.DrawFn) -> tuple[RouteConfig, Conversation]:
    """Where the proxy answers by itself it does so before the body has come, and closes if that comes late:
    there no body is cut."""
    forwards = draw(st.booleans())
    config = draw(st.sampled_from(_PLAIN)) if forwards else _certain_config(draw(route_configs.configs))
    messages = draw(st.lists(_messages(forwards), min_size=1, max_size=4))
    # Each a few times: the first time, the proxy has no connection to its server.
    several = [message for message in messages for _ in range(4)]
    ends = draw(st.sampled_from(("closes", "half-closes", "resets")))
    return config, Conversation(tuple(several), ends)


_PLAIN = (
    route_configs.config(Route(name="all", action=to("a"))),
    route_configs.config(
        Route(name="a", match=RouteMatch(path=PathPrefix("/a")), action=to("a")),
        Route(name="get", match=RouteMatch(path=PathPrefix("/"), method="GET"), action=to("b")),
        Route(name="rest", match=RouteMatch(path=PathPrefix("/")), action=to("least")),
    ),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(_conversations())
def test_the_kernel_changes_nothing(beds: Beds, generated: tuple[RouteConfig, Conversation]) -> None:
    config, conversation = generated
    beds.configure(config)
    seen = beds.both(conversation)
    assert seen["kernel"] == seen["proxy"]


_POST = b"POST /a HTTP/1.1\r\nHost: web\r\n"
_HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: web\r\n\r\n"
SMUGGLED = {
    "length and chunked": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(_HIDDEN),
    "two equal lengths": b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": b"Content-Length: 0, 0\r\n\r\n",
    "a sign": b"Content-Length: +0\r\n\r\n",
    "a minus": b"Content-Length: -0\r\n\r\n",
    "hexadecimal": b"Content-Length: 0x0\r\n\r\n",
    "an underscore": b"Content-Length: 0_0\r\n\r\n",
    "a space within": b"Content-Length: 0 0\r\n\r\n",
    "spaces around": b"Content-Length:   0  \r\n\r\n",
    "tabs around": b"Content-Length:\t0\t\r\n\r\n",
    "no length": b"Content-Length:\r\n\r\n",
    "a length that wraps": b"Content-Length: 18446744073709551616\r\n\r\n",
    "leading zeros": b"Content-Length: 0000000000000000000000000\r\n\r\n",
    "a space before the colon": b"Content-Length : %d\r\n\r\n" % len(_HIDDEN),
    "a space before the name": b"X: y\r\n Content-Length: %d\r\n\r\n" % len(_HIDDEN),
    "a folded value": b"Content-Length:\r\n 0\r\n\r\n",
    "a bare LF": b"X: y\nContent-Length: %d\r\n\r\n" % len(_HIDDEN),
    "LF alone at the end": b"Content-Length: 0\n\n",
    "a bare CR": b"X: y\rContent-Length: %d\r\n\r\n" % len(_HIDDEN),
    "a NUL": b"X: y\0\r\nContent-Length: 0\r\n\r\n",
    "a NUL in the name": b"Content-Length\0: %d\r\n\r\n" % len(_HIDDEN),
    "a high byte": b"X: \xff\r\nContent-Length: 0\r\n\r\n",
    "other letters": b"cOnTeNt-LeNgTh: 0\r\n\r\n",
    "a longer name": b"Content-Lengthy: %d\r\n\r\n" % len(_HIDDEN),
    "chunked, spelt otherwise": b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "something, then chunked": b"Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
    "a tab before chunked": b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    "a chunk's extension": b"Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
    "a chunk's long extension": b"Transfer-Encoding: chunked\r\n\r\n1;%b\r\nx\r\n0\r\n\r\n" % (b"a" * 9000),
    "a chunk's size with a sign": b"Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
    "a chunk's size with 0x": b"Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    "a chunk that ends by LF": b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\r\n\r\n",
    "a chunk that is longer than it says": b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    "trailers": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 7\r\n\r\n",
    "a body that is a request": b"Content-Length: %d\r\n\r\n" % len(_HIDDEN),
    "an upgrade": b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
    "fields named by Connection": b"Connection: content-length\r\nContent-Length: %d\r\n\r\n" % len(_HIDDEN),
    "an expectation": b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("form", SMUGGLED)
@pytest.mark.parametrize("apart", [False, True], ids=["in one write", "in two"])
def test_a_request_hidden_in_a_body(beds: Beds, form: str, apart: bool) -> None:
    """On a connection that the kernel carries requests of, to the server that the hidden one would reach."""
    beds.configure(route_configs.config(Route(name="all", action=to("a"))))
    head = _POST + SMUGGLED[form]
    warm = (b"GET /warm HTTP/1.1\r\nHost: web\r\n\r\n",)
    hidden = (head, _HIDDEN) if apart else (head + _HIDDEN,)
    seen = beds.both(Conversation((warm, warm, warm, hidden), "half-closes", certain=False))
    # Whether the last answer came with the others or after them is a matter of time.
    told = {way: (b"".join(got), requests) for way, (got, requests) in seen.items()}
    assert told["kernel"] == told["proxy"]
