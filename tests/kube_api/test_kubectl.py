"""The tests' API server from its other side: a real kubectl."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chart.rendering import NAMESPACE, Object, objects
from tests.kube_api.server import Server

SECONDS = 60.0


class Kubectl:
    def __init__(self, url: str, folder: Path) -> None:
        self._command = ("kubectl", "--server", url, f"--cache-dir={folder}", "--request-timeout=30s")

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *self._command, *arguments, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def __call__(self, *arguments: str, given: Sequence[Object] = ()) -> str:
        code, output, errors = await self.tried(*arguments, given=given)
        assert code == 0, errors
        return output

    async def tried(self, *arguments: str, given: Sequence[Object] = ()) -> tuple[int | None, str, str]:
        """``given``: objects on its standard input."""
        process = await self.start(*arguments)
        manifests = "\n".join(map(json.dumps, given))
        try:
            async with asyncio.timeout(SECONDS):
                output, errors = await process.communicate(manifests.encode())
        except TimeoutError:
            process.kill()
            raise
        return process.returncode, output.decode(), errors.decode()


def test_kubectl_gets_patches_and_watches(tmp_path: Path) -> None:
    async def run() -> None:
        server = Server()
        await server.put("services", "web", spec={"clusterIP": "10.96.0.1", "ports": [{"port": 80}]})
        await server.put("httproutes", "r", spec={})
        async with server.running():
            kubectl = Kubectl(server.url, tmp_path)
            got: dict[str, Any] = json.loads(await kubectl("get", "services", "-A", "-o", "json"))
            assert [each["metadata"]["name"] for each in got["items"]] == ["web"]
            assert json.loads(await kubectl("get", "service", "web", "-o", "json"))["spec"]["ports"] == [
                {"port": 80}
            ]
            watching = await kubectl.start("get", "httproutes", "--watch", "-o", "jsonpath={.status}{'\\n'}")
            try:
                assert watching.stdout is not None
                async with asyncio.timeout(SECONDS):
                    await watching.stdout.readline()
                    patch = json.dumps({"status": {"parents": [{"controllerName": "example.com/x"}]}})
                    await kubectl(
                        "patch", "httproute", "r", "--subresource=status", "--type=merge", "-p", patch
                    )
                    while b"example.com/x" not in (line := await watching.stdout.readline()):
                        assert line, "the watch has ended"
            finally:
                watching.kill()
                await watching.communicate()
            (parent,) = server.objects["httproutes", "default", "r"]["status"]["parents"]
            assert parent["controllerName"] == "example.com/x"

    asyncio.run(run())


def _service(**ports: int) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "default", "labels": {"app": "web"}}
    listed = [{"name": name, "port": port} for name, port in ports.items()]
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": listed}}


def _ports(server: Server) -> dict[str, int]:
    return {
        each["name"]: each["port"] for each in server.objects["services", "default", "web"]["spec"]["ports"]
    }


def test_kubectl_applies_waits_and_deletes(tmp_path: Path) -> None:
    """What is applied again unchanged is so; what is taken out of it goes, and nothing else."""

    async def run() -> None:
        server = Server()
        async with server.running():
            kubectl = Kubectl(server.url, tmp_path)
            apply = ("apply", "-f", "-")
            assert "created" in await kubectl(*apply, given=[_service(http=80, grpc=81)])
            assert "unchanged" in await kubectl(*apply, given=[_service(http=80, grpc=81)])
            patch = {"spec": {"ports": [{"name": "other", "port": 90}]}}
            await kubectl("patch", "service", "web", "-p", json.dumps(patch))  # a strategic merge
            assert _ports(server) == {"http": 80, "grpc": 81, "other": 90}
            assert "configured" in await kubectl(*apply, given=[_service(http=80, grpc=82)])
            assert _ports(server) == {"http": 80, "grpc": 82, "other": 90}
            version = server.version
            await kubectl(*apply, "--dry-run=server", given=[_service(http=8080)])
            assert server.version == version
            change = [{"op": "replace", "path": "/spec/ports/1/port", "value": 83}]
            await kubectl("patch", "service", "web", "--type=json", "-p", json.dumps(change))
            assert _ports(server) == {"http": 80, "grpc": 83, "other": 90}
            await kubectl("wait", "service/web", "--for=jsonpath={.spec.ports[0].port}=80", "--timeout=30s")
            waiting = asyncio.create_task(kubectl("wait", "service/web", "--for=delete", "--timeout=30s"))
            await kubectl("delete", "service", "web", "--timeout=30s")
            await waiting
            assert ("services", "default", "web") not in server.objects
            code, _, errors = await kubectl.tried("get", "service", "web")
            assert (code, "NotFound" in errors) == (1, True)

    asyncio.run(run())


def test_kubectl_applies_at_the_server(tmp_path: Path) -> None:
    """Each field has its owners: another's is a conflict, unless it is taken by force."""

    async def run() -> None:
        server = Server()
        async with server.running():
            kubectl = Kubectl(server.url, tmp_path)

            def apply(manager: str, *more: str) -> tuple[str, ...]:
                return ("apply", "--server-side", f"--field-manager={manager}", "-f", "-", *more)

            await kubectl(*apply("one"), given=[_service(http=80, grpc=81)])
            version = server.version
            await kubectl(*apply("one"), given=[_service(http=80, grpc=81)])
            assert server.version == version
            other = _service(http=80)
            other["metadata"]["labels"] = {"app": "other"}
            code, _, errors = await kubectl.tried(*apply("two"), given=[other])
            assert (code, 'conflict with "one": .metadata.labels.app' in errors) == (1, True)
            await kubectl(*apply("two", "--force-conflicts"), given=[other])
            labels = server.objects["services", "default", "web"]["metadata"]["labels"]
            assert (labels, _ports(server)) == ({"app": "other"}, {"http": 80, "grpc": 81})
            mine = _service()
            del mine["metadata"]["labels"], mine["spec"]
            await kubectl(*apply("one"), given=[mine])  # port 80 is two's as well
            assert _ports(server) == {"http": 80}

    asyncio.run(run())


def test_kubectl_installs_the_chart_and_takes_it_out(tmp_path: Path) -> None:
    async def run() -> None:
        server = Server()
        before = set(server.objects)
        async with server.running():
            kubectl = Kubectl(server.url, tmp_path)
            rendered = objects()
            await kubectl("apply", "-n", NAMESPACE, "-f", "-", given=rendered)
            assert len(server.objects) == len(before) + len(rendered)
            version = server.version
            await kubectl("apply", "-n", NAMESPACE, "-f", "-", given=rendered)
            assert server.version == version
            await kubectl("delete", "-n", NAMESPACE, "-f", "-", given=rendered)
            assert set(server.objects) == before

    asyncio.run(run())
