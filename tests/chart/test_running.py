"""The rendered control plane and agent as processes, against an API server that notes what it is asked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web as http

from meshd.agent.control_plane import ControlPlane
from meshd.cli.daemonset import DaemonSet, why_last
from meshd.kube_api.access import Access
from meshd.kube_api.credentials import Credential, Fixed
from meshd.tls_files import TlsFiles
from meshd.workloads.node_pods import follow_cluster
from tests.chart.rendering import NAMESPACE, Object, arguments, objects, one
from tests.control.running import agent, until
from tests.kube_api.kubeconfig import kubeconfig
from tests.kube_api.paths import place
from tests.kube_api.server import Server

LOCAL = {"control": {"tls": {"addresses": ["127.0.0.1"]}}}
SECONDS = 60.0


class Right(NamedTuple):
    """What a request asks for, and a rule grants."""

    verb: str
    group: str
    resource: str


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Account:
    """A service account: what the chart grants it, and what it was seen to ask for."""

    def __init__(self, manifests: list[Object], name: str) -> None:
        self._rules = [
            (rule, binding["metadata"].get("namespace", ""))
            for binding in manifests
            if binding["kind"] in ("ClusterRoleBinding", "RoleBinding")
            and {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE} in binding["subjects"]
            for rule in one(manifests, binding["roleRef"]["kind"], binding["roleRef"]["name"])["rules"]
        ]
        self.asked: set[Right] = set()
        self.refused: list[str] = []

    @property
    def granted(self) -> set[Right]:
        return {
            Right(verb, group, resource)
            for rule, _ in self._rules
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }

    async def note(self, request: http.Request) -> http.StreamResponse | None:
        """As the API server's RBAC authorizer: 403 for what no rule allows."""
        group, namespace, plural, name, subresource = place(request.path)
        resource = f"{plural}/{subresource}" if subresource else plural
        verb = _VERBS.get(request.method) or ("get" if name else "list")
        if request.query.get("watch"):
            verb = "watch"
        right = Right(verb, group, resource)
        for rule, within in self._rules:
            names = rule.get("resourceNames", ())
            if (
                verb in rule["verbs"]
                and group in rule["apiGroups"]
                and resource in rule["resources"]
                and within in ("", namespace)
                and (not names or name in names)
            ):
                self.asked.add(right)
                return None
        self.refused.append(f"{verb} {request.path}")
        return http.json_response({"kind": "Status", "code": 403, "reason": "Forbidden"}, status=403)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "meshd", *command], stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


async def _put_objects(server: Server) -> None:
    target = [{"group": "", "kind": "Service", "name": "web"}]
    await server.put("services", "web", spec={"clusterIP": "10.96.0.1", "ports": [{"port": 80}]})
    parents = [{**target[0], "port": 80}]
    rules = [{"backendRefs": [{"name": "web", "port": 80}]}]
    for kind in ("httproutes", "grpcroutes", "tcproutes"):
        await server.put(kind, "r", spec={"parentRefs": parents, "rules": rules})
    names = {"hostnames": ["web.example"]}
    await server.put("tlsroutes", "r", spec={"parentRefs": parents, "rules": rules, **names})
    await server.put("upstreampolicies", "u", spec={"targetRefs": target, "limits": {"requests": 9}})
    await server.put("routepolicies", "p", spec={"targetRefs": target, "accessLog": {"percent": 1}})


def test_control_plane_runs_as_rendered_with_exactly_its_rights(tmp_path: Path) -> None:
    """Arguments, certificates, token reviews, probes and RBAC, each as the chart has it."""
    manifests = objects(LOCAL)
    account = Account(manifests, "meshd-control")
    for name, text in one(manifests, "Secret", "meshd-control-tls")["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(text))
    authority = one(manifests, "ConfigMap", "meshd-control-ca")["data"]["ca.crt"]
    (tmp_path / "bundle.crt").write_text(authority)
    (tmp_path / "token").write_text("projected")
    xds, metrics = _free_port(), _free_port()
    given = [
        each.replace("/etc/meshd/tls", str(tmp_path))
        .replace("[::]:15010", f"127.0.0.1:{xds}")
        .replace(":15021", f":{metrics}")
        for each in arguments(manifests, "Deployment", "meshd-control", POD_IP="127.0.0.1")
    ]
    (container,) = one(manifests, "Deployment", "meshd-control")["spec"]["template"]["spec"]["containers"]
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness", "startup")}

    async def run() -> None:
        server = Server()
        server.intercept = account.note
        user = {"username": f"system:serviceaccount:{NAMESPACE}:meshd-agent"}
        server.tokens["projected"] = {
            "authenticated": True, "user": user, "audiences": ["meshd-control"]
        }  # fmt: skip
        await _put_objects(server)
        plane = ControlPlane(
            targets=(f"127.0.0.1:{xds}",),
            tls=TlsFiles(authorities=tmp_path / "bundle.crt"),
            token_file=tmp_path / "token",
        )
        log = tmp_path / "log"
        async with server.running():
            given.append(f"--kubeconfig={kubeconfig(tmp_path, server.url)}")
            with running(*given, log=log) as process:
                async with agent(plane) as node:
                    await _until(process, log, lambda: node.client.synced, "serve the agent")
                    await _until(process, log, lambda: account.asked == account.granted, "use its rights")
                for path in probes:
                    url = f"http://127.0.0.1:{metrics}{path}"
                    assert await asyncio.to_thread(_status, url) == 200, path
        assert not account.refused

    asyncio.run(run())


async def _until(
    process: subprocess.Popen[bytes], log: Path, condition: Callable[[], object], what: str
) -> None:
    def ended() -> bool:
        return process.poll() is not None

    try:
        await until(lambda: condition() or ended(), what, SECONDS)
        assert not ended(), what
    except AssertionError as error:
        raise AssertionError(f"it did not {what}: {log.read_text()[-3000:]}") from error


@pytest.mark.parametrize(
    ("review", "why"),
    [
        ({"authenticated": False}, "not known here"),
        ({"authenticated": True, "user": {"username": "u"}}, "not known here"),
        ({"authenticated": True, "user": {"username": "u"}, "audiences": ["other"]}, "not known here"),
        (None, "the API server does not say whose the token is"),
    ],
)
def test_who_shows_no_token_for_the_mesh_is_refused(review: Object | None, why: str) -> None:
    from meshd.control.access import Access as Asked
    from meshd.control.access import UnauthenticatedError
    from meshd.control.token_review import TokenReview

    class Caller:
        def peer(self) -> str:
            return "ipv4:127.0.0.1:1"

        def auth_context(self) -> dict[str, list[bytes]]:
            return {}

        def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
            return [("authorization", "Bearer given")]

    async def run() -> None:
        server = Server()
        if review is not None:
            server.tokens["given"] = review
        async with _maybe(server, review is not None) as url:
            tokens = TokenReview(Access(url, NAMESPACE, Fixed(Credential())), "meshd-control")
            with pytest.raises(UnauthenticatedError, match=why):
                await Asked(tokens=tokens).identify(Caller())

    asyncio.run(run())


@contextlib.asynccontextmanager
async def _maybe(server: Server, up: bool) -> AsyncIterator[str]:
    """Its URL; where it is down, one at which nobody listens."""
    if not up:
        yield f"http://127.0.0.1:{_free_port()}"
        return
    async with server.running():
        yield server.url


def test_who_a_token_is_of_and_where() -> None:
    from meshd.control.token_review import NODE_NAME, TokenReview

    async def run() -> None:
        server = Server()
        user = {"username": "system:serviceaccount:mesh:agent", "extra": {NODE_NAME: ["n1"]}}
        review = {"authenticated": True, "user": user, "audiences": ["meshd-control"]}
        server.tokens |= {"bound": review, "unbound": {**review, "user": {"username": user["username"]}}}
        async with server.running():
            tokens = TokenReview(Access(server.url, NAMESPACE, Fixed(Credential())), "meshd-control")
            found = [await tokens.identify(each) for each in ("bound", "unbound")]
        told = [each and (each.namespace, each.bound_node) for each in found]
        assert told == [("mesh", "n1"), ("mesh", "")]

    asyncio.run(run())


def test_agent_asks_for_exactly_its_rights_and_sees_that_it_is_the_last(tmp_path: Path) -> None:
    account = Account(objects(), "meshd-agent")
    of = DaemonSet(NAMESPACE, "meshd-agent")

    async def run() -> None:
        server = Server()
        server.intercept = account.note
        await server.put("daemonsets", of.name, of.namespace)
        async with server.running():
            access = Access(server.url, NAMESPACE, Fixed(Credential()))
            async with contextlib.aclosing(follow_cluster(access, "n")) as states:
                await anext(states)
                assert await why_last(access, of) == ""
                await until(lambda: account.asked == account.granted, f"asked: {account.asked}")
            assert not account.refused
            await server.delete("daemonsets", of.name, of.namespace)
            assert await why_last(access, of) == f"DaemonSet {NAMESPACE}/meshd-agent is gone"
            # Its role may go before it is asked.
            assert "may not be asked about" in await why_last(access, DaemonSet("other", "meshd-agent"))
        assert await why_last(access, of) == ""  # who cannot be asked has not said that it is gone

    asyncio.run(run())
