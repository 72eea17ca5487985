"""Several control planes on the same manifests: a node goes from one to another without a gap."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshd.agent.control_plane import ControlPlane, Rounds
from meshd.model.snapshot import Delta
from tests.control.running import DEADLINE, agent, until, web
from tests.control.test_command import line_with, started

CHANGES = 30


def free_port() -> int:
    """Free on both of localhost's addresses."""
    with socket.create_server(("127.0.0.1", 0)) as four, socket.socket(socket.AF_INET6) as six:
        port = int(four.getsockname()[1])
        six.bind(("::1", port))
        return port


@contextlib.asynccontextmanager
async def replicas(manifests: Path, *listen: str) -> AsyncIterator[dict[str, int]]:
    """Processes by the address that they serve at; those that still run are ended."""
    with contextlib.ExitStack() as stack:
        found = {}
        for address in listen:
            process = stack.enter_context(started("--manifests", str(manifests), "--listen", address))
            await asyncio.to_thread(line_with, process, '"new version"')
            found[address] = process.pid
        yield found


async def connected_to(pids: dict[str, int]) -> str:
    """At which of the replicas' addresses our only stream ends. gRPC may try both at once before."""
    found: list[str] = []

    async def look() -> None:
        listing = await asyncio.create_subprocess_exec(
            "ss", "-Htnp", "state", "established", stdout=asyncio.subprocess.PIPE
        )
        lines = (await listing.communicate())[0].decode().splitlines()
        found[:] = [each for each, pid in pids.items() for line in lines if f"pid={pid}," in line]

    deadline = time.monotonic() + DEADLINE
    while len(found) != 1:
        assert time.monotonic() < deadline, found
        await look()
    return found[0]


@pytest.mark.parametrize("by_name", [False, True], ids=["addresses", "one name"])
def test_a_killed_replica_is_left_for_another(tmp_path: Path, by_name: bool) -> None:
    (tmp_path / "web.yaml").write_text(web())
    port = free_port()
    listen = (f"127.0.0.1:{port}", f"[::1]:{port}")
    plane = ControlPlane(targets=(f"localhost:{port}",) if by_name else listen)

    async def run() -> None:
        async with replicas(tmp_path, *listen) as pids, agent(plane) as node:
            await until(lambda: node.client.synced, "the first config")
            deltas = len(node.deltas)
            lost = await connected_to(pids)
            for change in range(CHANGES):
                if change == CHANGES // 3:
                    os.kill(pids.pop(lost), signal.SIGKILL)
                # By rename: on a busy machine an empty file would be read, and all be gone for a moment.
                (tmp_path / "web.new").write_text(web(f"10.1.1.{change}"))
                (tmp_path / "web.new").rename(tmp_path / "web.yaml")
                await asyncio.sleep(0.02)
            await until(node.has_endpoint(f"10.1.1.{CHANGES - 1}"), "the last change")
            assert await connected_to(pids) != lost
            assert node.client.connects == 2
            # Both have the same versions of everything else: nothing but what changed has been sent.
            assert node.client.nacks == 0
            for delta in node.deltas[deltas:]:
                assert delta == Delta(generation=0, endpoints=delta.endpoints)
                assert [each.name for each in delta.endpoints] == ["default/web:80"]

    asyncio.run(run())


def test_rounds_try_all_and_leave_the_lost_one_for_last() -> None:
    rounds = Rounds(("a", "b", "c"))
    for _ in range(50):
        assert sorted(rounds.next() for _ in range(3)) == ["a", "b", "c"]
        assert rounds.over
    firsts: Counter[str] = Counter()
    for _ in range(200):
        last = rounds.next()
        rounds.lost()
        following = [rounds.next(), rounds.next()]
        assert sorted([last, *following]) == ["a", "b", "c"]
        assert rounds.over
        firsts[following[0]] += 1
    assert set(firsts) == {"a", "b", "c"}
    alone = Rounds(("a",))
    for _ in range(3):
        assert alone.next() == "a"
        assert alone.over
        alone.lost()
