"""An agent whose DaemonSet is gone leaves nothing on its node; one whose DaemonSet is there leaves all."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from meshd.paths import PIN_ROOT, run_dir
from tests.chart.rendering import NAMESPACE
from tests.control.running import until
from tests.kube_api.kubeconfig import kubeconfig
from tests.kube_api.server import Server
from tests.support.mesh_node import MeshNode

SECONDS = 60.0


@pytest.mark.parametrize("gone", [True, False])
def test_what_an_agent_leaves_when_it_ends(tmp_path: Path, gone: bool) -> None:
    async def run() -> None:
        server = Server()
        if not gone:
            await server.put("daemonsets", "meshd-agent", NAMESPACE)
        async with server.running():
            options = (
                "--runtime", "containerd", "--runtime-socket", str(tmp_path / "nobody"),
                "--kubernetes", "--kubeconfig", str(kubeconfig(tmp_path, server.url)),
                "--daemonset", f"{NAMESPACE}/meshd-agent", "--fast-path", "off",
            )  # fmt: skip
            with MeshNode(f"unix:{tmp_path / 'nobody'}", *options) as node:
                await asyncio.to_thread(node.status)
                await until(node.worker_pids, "a worker", SECONDS)
                (worker,) = node.worker_pids()
                pins, state = PIN_ROOT / node.instance, run_dir(node.instance)
                assert any((pins / "links").iterdir())
                os.kill(node.agent_pid, signal.SIGTERM)
                assert await asyncio.to_thread(node.ended) == 0
                if gone:
                    assert not pins.exists()
                    assert not state.exists()
                    await until(lambda: not Path(f"/proc/{worker}").exists(), "the worker's end", SECONDS)
                else:
                    assert any((pins / "links").iterdir())
                    assert Path(f"/proc/{worker}").exists()
                assert ("INFO meshd.agent uninstalled reason=" in node.log()) is gone

    asyncio.run(run())
