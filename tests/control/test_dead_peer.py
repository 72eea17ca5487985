"""A control plane that neither answers nor closes: stopped, or behind a cable that was pulled."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

from tests.control.running import agent, until, web
from tests.control.test_command import line_with, started


def test_is_noticed_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(web())

    async def run(target: str, pid: int) -> None:
        async with agent(target) as node:
            await until(lambda: node.client.synced, "the first config")
            os.kill(pid, signal.SIGSTOP)
            # At the latest 10 s to the next ping and 5 s for its answer.
            await until(lambda: not node.client.connected, "the loss")
            assert node.endpoints() == ["10.1.0.1"]
            os.kill(pid, signal.SIGCONT)
            await until(lambda: node.client.connected, "the next stream")

    with started("--manifests", str(tmp_path), "--listen", "127.0.0.1:0") as process:
        found = re.search(r"port=(\d+)", line_with(process, "listening"))
        assert found
        asyncio.run(run(f"127.0.0.1:{found[1]}", process.pid))
