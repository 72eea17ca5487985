"""Discovery on a real containerd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.kube_api.access import Access
from meshd.kube_api.credentials import Credential, Fixed
from meshd.workloads.discovery import Discovery, Runtime
from meshd.workloads.membership import Enrol
from tests.kube_api.server import Server
from tests.support.containerd import Containerd, Pod, running_containerd
from tests.workloads.following import following


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    with running_containerd("10.211.7") as made:
        yield made


def discovery(containerd: Containerd, access: Access | None = None, enrol: Enrol = Enrol.ALL) -> Discovery:
    return Discovery(
        runtime=Runtime.CONTAINERD, place=containerd.socket, node="here", enrol=enrol, access=access
    )


def test_pods_come_and_go(containerd: Containerd) -> None:
    async def run() -> None:
        async with following(discovery(containerd)) as until:
            await until(lambda found: not found.workloads)
            marks = {"meshd.io/fast-path": "off"}
            with pod(containerd, "web", labels={"app": "web"}, annotations=marks):
                found = await until(lambda found: bool(found.workloads))
                (workload,) = found.workloads.values()
                assert not Path(workload.netns).samefile("/proc/self/ns/net")
            assert (workload.uid, workload.namespace, workload.name) == ("uid-web", "default", "web")
            assert workload.labels == {"app": "web"}
            assert workload.annotations == marks
            assert workload.ips[0].startswith("10.211.7.")
            await until(lambda found: not found.workloads)

    asyncio.run(run())


def test_the_nodes_own_network_is_left_alone(containerd: Containerd) -> None:
    async def run() -> None:
        async with following(discovery(containerd)) as until:
            with pod(containerd, "agent", host_network=True):
                found = await until(lambda found: bool(found.left_out))
                assert not found.workloads
                assert [(each.name, each.reason) for each in found.left_out] == [
                    ("agent", "it has the node's network namespace")
                ]

    asyncio.run(run())


def test_a_container_that_is_started_anew_leaves_its_pod_where_it_is(containerd: Containerd) -> None:
    async def run() -> None:
        async with following(discovery(containerd)) as until:
            with pod(containerd, "web") as made:
                before = await until(lambda found: "uid-web" in found.workloads)
                first = await asyncio.to_thread(containerd.run_container, made, ["sleep", "100"])
                await asyncio.to_thread(containerd.remove_container, first)
                await asyncio.to_thread(containerd.run_container, made, ["sleep", "100"], attempt=1)
                with pod(containerd, "later"):
                    after = await until(lambda found: "uid-later" in found.workloads)
                assert after.workloads["uid-web"] == before.workloads["uid-web"]

    asyncio.run(run())


def test_a_pod_whose_sandbox_is_made_anew_has_another_namespace(containerd: Containerd) -> None:
    async def run() -> None:
        async with following(discovery(containerd)) as until:
            first = await asyncio.to_thread(containerd.run_pod, "web")
            before = await until(lambda found: "uid-web" in found.workloads)
            await asyncio.to_thread(containerd.remove_pod, first)
            with pod(containerd, "web", attempt=1):
                old = before.workloads["uid-web"].netns
                after = await until(
                    lambda found: "uid-web" in found.workloads and found.workloads["uid-web"].netns != old
                )
                assert after.workloads["uid-web"].ips != before.workloads["uid-web"].ips

    asyncio.run(run())


def test_while_containerd_is_away_nothing_changes(containerd: Containerd) -> None:
    """Its pods run on; what has come meanwhile is seen when it is back."""

    async def run() -> None:
        async with following(discovery(containerd)) as until:
            with pod(containerd, "web"):
                before = await until(lambda found: "uid-web" in found.workloads)
                await asyncio.to_thread(containerd.stop)
                await asyncio.to_thread(containerd.start)
                with pod(containerd, "later"):
                    after = await until(lambda found: len(found.workloads) != 1)
                assert after.workloads.keys() == {"uid-web", "uid-later"}
                assert after.workloads["uid-web"] == before.workloads["uid-web"]

    asyncio.run(run())


def test_the_api_server_says_who_is_in_the_mesh(containerd: Containerd) -> None:
    async def run() -> None:
        server = Server()
        async with server.running():
            await server.put("namespaces", "default", "")
            access = Access(server.url, "default", Fixed(Credential()))
            async with following(discovery(containerd, access, Enrol.LABELLED)) as until:
                with pod(containerd, "web", labels={"meshd.io/mesh": "enabled"}):
                    # The runtime's word for a pod that the API server does not know (yet).
                    await until(lambda found: "uid-web" in found.workloads)
                    # Its labels have changed since the sandbox was made.
                    spec = {"nodeName": "here", "serviceAccountName": "robot"}
                    await server.put("pods", "web", uid="uid-web", labels={"app": "web"}, spec=spec)
                    found = await until(lambda found: not found.workloads)
                    assert found.left_out[0].reason == (
                        "neither pod nor namespace has the label meshd.io/mesh: enabled"
                    )
                    await server.put("namespaces", "default", "", labels={"meshd.io/mesh": "enabled"})
                    found = await until(lambda found: bool(found.workloads))
                    assert found.workloads["uid-web"].service_account == "robot"
                    assert found.workloads["uid-web"].labels == {"app": "web"}
        assert {watch["fieldSelector"] for watch in server.watches if "fieldSelector" in watch} == {
            "spec.nodeName=here"
        }

    asyncio.run(run())


@contextlib.contextmanager
def pod(
    containerd: Containerd, name: str, *, labels: dict[str, str] | None = None, **how: Any
) -> Iterator[Pod]:
    made = containerd.run_pod(name, labels=labels, **how)
    try:
        yield made
    finally:
        containerd.remove_pod(made)
