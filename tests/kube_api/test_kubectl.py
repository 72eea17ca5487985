"""The tests' API server from its other side: a real kubectl."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.kube_api.server import Server

SECONDS = 60.0


class Kubectl:
    def __init__(self, url: str, folder: Path) -> None:
        self._command = ("kubectl", "--server", url, f"--cache-dir={folder}", "--request-timeout=30s")

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*self._command, *arguments, stdout=pipe, stderr=pipe)

    async def __call__(self, *arguments: str) -> str:
        process = await self.start(*arguments)
        try:
            async with asyncio.timeout(SECONDS):
                output, errors = await process.communicate()
        except TimeoutError:
            process.kill()
            raise
        assert process.returncode == 0, errors.decode()
        return output.decode()


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
