"""Sends a case's requests from its clients' pods, and checks what came back."""

from __future__ import annotations

import json
import math
import subprocess
import urllib.parse
import uuid
from collections import Counter, defaultdict
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import msgspec

from tests.conformance.cases import NAMESPACE, Case, Message, Request, Session
from tests.support.lab import MESHD as COMMAND
from tests.support.lab import Lab, until

MESHD, ENVOY = "meshd", "Envoy"
CONSUMER = "conformance-consumer"
_SHARE_TOLERANCE = 0.05
"""The suite's own (conformance/utils/weight): with 2,000 requests five standard deviations."""


class Answer(msgspec.Struct, frozen=True):
    """A response, as pods/ask.py reports it."""

    status: int
    headers: dict[str, list[str]]
    body: str


class World:
    """A lab with clients behind each of the proxies."""

    def __init__(self, lab: Lab, clients: dict[str, str], authority: Path) -> None:
        """``clients``: the pod by the proxy; there is one in each namespace that sends.

        ``authority``: the file of the CA that TLS servers are believed by.
        """
        self.lab = lab
        self.authority = authority
        self._clients = clients

    def client(self, proxy: str) -> str:
        """The pod behind a proxy."""
        return self._clients[proxy]

    def check(self, proxy: str, case: Case) -> None:
        """Send all requests of a case. Raises AssertionError."""
        by_source: defaultdict[str, list[Request]] = defaultdict(list)
        for request in case.requests:
            by_source[request.source].append(request)
        for source, requests in by_source.items():
            unique = uuid.uuid4().hex
            sent = [self._sent(request, f"{unique}-{i}") for i, request in enumerate(requests)]
            answers = self._ask(source, self._clients[proxy], sent)
            for i, (request, several) in enumerate(zip(requests, answers, strict=True)):
                _check(request, several)
                for mirror, share in request.mirrored.items():
                    self._check_mirror(request, mirror, share, f"{unique}-{i}-")

    def _check_mirror(self, request: Request, pod: str, share: float, unique: str) -> None:
        """A mirror's count is binomial; the suite allows it three standard deviations, in one run of five."""
        slack = 5 * math.sqrt(request.times * share * (1 - share))
        least, most = request.times * share - slack, request.times * share + slack

        def received() -> list[dict[str, Any]]:
            asked = Request(path=f"/_received?{unique}", pod=pod, times=1)
            ((answer,),) = self._ask(NAMESPACE, self._clients[MESHD], [self._sent(asked, "")])
            found: list[dict[str, Any]] = json.loads(answer.body)
            return found

        until(lambda: len(received()) >= least)
        copies = received()
        assert len(copies) <= most, f"{pod} got {len(copies)} copies of {request.times} requests"
        for copy in copies:
            assert copy["method"] == request.method
            _check_message(request.seen, copy["headers"], copy["path"], f"{request.path}: seen by {pod}")

    def pods(self, proxy: str, request: Request) -> set[str]:
        """Which pods answer a request, sent as often as it says."""
        (answers,) = self._ask(request.source, self._clients[proxy], [self._sent(request, "")])
        return {json.loads(answer.body)["pod"] for answer in answers}

    def check_session(self, proxy: str, case: Case, session: Session) -> None:
        """Begin a session and stay in it, then send what no session is in. Raises AssertionError."""
        client = self._clients[proxy]

        def ask(headers: dict[str, str], times: int) -> list[Answer]:
            asked = Request(
                path=session.path, host=case.slug, service=case.slug, headers=headers, times=times
            )
            return self._ask(NAMESPACE, client, [self._sent(asked, "")])[0]

        (first,) = ask({}, 1)
        assert first.status == 200
        if session.cookie:
            cookie = SimpleCookie(first.headers["set-cookie"][0])[session.cookie]
            expected = {name: session.attributes.get(name, "") for name in ("path", "max-age", "expires")}
            assert {name: cookie[name] for name in expected} == expected
            token = {"Cookie": f"{session.cookie}={cookie.coded_value}"}
        else:
            token = {session.header: first.headers[session.header][0]}
        pod = json.loads(first.body)["pod"]
        assert {json.loads(answer.body)["pod"] for answer in ask(token, 50)} == {pod}
        # 1 in 2^63 that it is chance.
        assert len({json.loads(answer.body)["pod"] for answer in ask({}, 64)}) == 2

    def connect(self, proxy: str, connections: list[dict[str, Any]]) -> list[list[str]]:
        """Open each of some connections, from the pod behind a proxy: who answered (pods/connect.py)."""
        script = ("connect.py", str(self.authority))
        found = self._run(NAMESPACE, self._clients[proxy], script, connections)
        return msgspec.json.decode(found, type=list[list[str]])

    def _ask(self, source: str, pod: str, requests: list[dict[str, Any]]) -> list[list[Answer]]:
        return msgspec.json.decode(self._run(source, pod, ("ask.py",), requests), type=list[list[Answer]])

    def _run(self, source: str, pod: str, script: tuple[str, ...], given: object) -> bytes:
        """What one of the programs in pods/ writes."""
        done = subprocess.run(
            [
                *(*COMMAND, "lab", "--name", self.lab.name, "exec", "-n", source, pod),
                *("--", "/usr/bin/python3", *script),
            ],
            input=msgspec.json.encode(given),
            cwd=Path(__file__).parent / "pods",
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def _sent(self, request: Request, unique: str) -> dict[str, Any]:
        host = request.host if request.port == 80 else f"{request.host}:{request.port}"
        headers = {"Host": host, **request.headers}
        if request.echo:
            headers["X-Echo-Set-Header"] = ",".join(f"{name}:{value}" for name, value in request.echo.items())
        address, port = f"{request.service}.{NAMESPACE}", request.port
        if request.pod:
            address, port = self.lab.pod(request.pod)["ip"], 8080
        return {"address": address, "port": port, "headers": headers, "unique": unique} | {
            name: getattr(request, name) for name in ("method", "path", "times")
        }


def _check(request: Request, answers: list[Answer]) -> None:
    where = f"{request.method} {request.path} {request.headers} to {request.service}:{request.port}"
    pods: Counter[str] = Counter()
    for answer in answers:
        statuses = (200, 204, 403) if request.preflight else (request.status,)
        assert answer.status in statuses, f"{where}: {answer}"
        _check_message(request.answer, answer.headers, "", f"{where}: answer")
        if request.location:
            (location,) = answer.headers["location"]
            assert _normal(location) == _normal(request.location), where
        if request.preflight:
            assert answer.status != 403 or not request.answer.headers
        elif request.status == 200 and request.method != "HEAD":
            echoed = json.loads(answer.body)
            pods[echoed["pod"]] += 1
            assert echoed["method"] == request.method
            seen = Message(
                request.seen.path,
                {
                    n: v.replace("POD", echoed["pod"]) if isinstance(v, str) else v
                    for n, v in request.seen.headers.items()
                },
                request.seen.absent,
            )
            _check_message(seen, echoed["headers"], echoed["path"], f"{where}: seen by the server")
    expected = request.to if isinstance(request.to, tuple) else (request.to,)
    if expected and request.status == 200:
        assert pods.keys() <= set(expected), f"{where}: answered by {pods}"
    for pod, share in request.split.items():
        assert abs(pods[pod] / pods.total() - share) < _SHARE_TOLERANCE, f"{where}: answered by {pods}"


def _check_message(expected: Message, headers: dict[str, list[str]], path: str, where: str) -> None:
    if expected.path:
        assert path == expected.path, where
    for name, value in expected.headers.items():
        found = ",".join(headers.get(name.lower(), ())).replace(", ", ",")
        assert found in ((value,) if isinstance(value, str) else value), f"{where}: {name}: {found!r}"
    for name in expected.absent:
        assert name.lower() not in headers, f"{where}: {name} is there"


def _normal(location: str) -> tuple[str, str, int, str]:
    """A URL with its port spelt out: the suite takes http://a:80/ and http://a/ for the same."""
    parts = urllib.parse.urlsplit(location)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return parts.scheme, parts.hostname or "", port, parts.path
