"""Discovery on a real Docker engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from meshd.workloads.discovery import Discovery, Runtime
from tests.support.docker import running_docker
from tests.workloads.following import following

MARK = "meshd.io/mesh=enabled"


def test_containers_come_and_go() -> None:
    async def run() -> None:
        with running_docker("10.211.9.0/24") as docker:
            discovery = Discovery(runtime=Runtime.DOCKER, place=docker.socket, node="here")
            async with following(discovery) as until:
                await until(lambda found: not found.workloads)
                ids = await asyncio.to_thread(docker.run, "web", MARK, "meshd.io/namespace=shop")
                found = await until(lambda found: bool(found.workloads))
                assert list(found.workloads) == [ids]
                web = found.workloads[ids]
                assert (web.namespace, web.name, web.ips) == ("shop", "web", ("10.211.9.2",))
                assert Path(web.netns).samefile(f"/proc/{docker.pid('web')}/ns/net")

                docker.run("helper", MARK, network="container:web")
                docker.run("plain")
                docker.run("node", MARK, network="host")
                found = await until(lambda found: len(found.left_out) == 2)
                assert list(found.workloads) == [ids]
                assert {each.name: each.reason for each in found.left_out} == {
                    "node": "it has the node's network namespace",
                    "plain": "neither pod nor namespace has the label meshd.io/mesh: enabled",
                }
                docker.remove("helper", "web")
                await until(lambda found: not found.workloads)

    asyncio.run(run())
