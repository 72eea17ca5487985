"""Who is enrolled, of real network namespaces."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

from meshd import netns
from meshd.agent.enrolment import Enrolment
from meshd.agent.worker_start import WorkerStart
from meshd.agent.workers import Greeting, Workers
from meshd.build import Build
from meshd.model.workload import Workload
from meshd.workloads.found import Found
from tests.support.netns import namespace


class Members:
    """The membership map, and who was taken out of it."""

    def __init__(self) -> None:
        self.cookies: set[int] = set()
        self.removed: list[int] = []

    def set_member(
        self,
        cookie: int,
        port: int,
        ipv6: bool,
        fast_path: bool = False,
        joins: bool | None = None,
        addresses: Collection[str] = (),
    ) -> None:
        self.cookies.add(cookie)

    def remove_member(self, cookie: int) -> None:
        self.cookies.remove(cookie)
        self.removed.append(cookie)

    def members(self) -> frozenset[int]:
        return frozenset(self.cookies)


def test_another_path_to_the_same_namespace_is_the_same_workload(tmp_path: Path) -> None:
    """A container sees of /run/netns what was mounted when it was made: the next agent's sees more."""
    greeting, start = Greeting(*[lambda *_: None] * 5), WorkerStart(Build("", ""), 2)

    async def run() -> None:
        members, home = Members(), netns.open_own()
        enrolment = Enrolment(members, Workers(0, tmp_path, greeting, start, asyncio.Event()), home)
        try:
            with namespace() as pod, namespace() as other:
                for path in (pod.path, f"/proc/self/fd/{pod.fd}"):
                    workload = Workload(uid="u", namespace="test", name="pod", netns=path)
                    await enrolment.reconcile(Found({"u": workload}))
                    assert (members.cookies, members.removed) == ({pod.cookie}, [])
                    assert enrolment.view()[0].enrolled
                moved = Workload(uid="u", namespace="test", name="pod", netns=other.path)
                await enrolment.reconcile(Found({"u": moved}))
                assert (members.cookies, members.removed) == ({other.cookie}, [pod.cookie])
        finally:
            enrolment.close()
            os.close(home)

    asyncio.run(run())
