"""Enrolment: the workloads that are on the node and those that the mesh serves, kept the same.

A workload is *pending* (found, not served: its namespace could not be captured, and is tried again) or
*enrolled* (listeners open, workers told, its namespace a member in the kernel).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection
from typing import Protocol

from meshd import log
from meshd.agent.annotations import FastPathChoice, annotated_choice
from meshd.agent.inpod import EnrolmentError, InPod, adopt, open_in_pod
from meshd.agent.worker_slot import WorkerSlot
from meshd.agent.workers import Workers
from meshd.model.view import WorkloadView
from meshd.model.wire import AddWorkload, Hello, Holding, RemoveWorkload
from meshd.model.workload import Workload
from meshd.workloads.found import Found

_logger = logging.getLogger("meshd.agent.enrolment")

RETRY_SECONDS = 2.0


class Members(Protocol):
    """The kernel's membership map."""

    def set_member(
        self,
        cookie: int,
        port: int,
        ipv6: bool,
        fast_path: bool = False,
        joins: bool | None = None,
        addresses: Collection[str] = (),
    ) -> None:
        """Capture in the namespace of that cookie: Datapath.set_member."""

    def remove_member(self, cookie: int) -> None:
        """No longer capture there."""

    def members(self) -> frozenset[int]:
        """The cookies of all members."""


class Enrolment:
    """The state of all workloads of the node. Owns their namespaces and listeners."""

    def __init__(self, members: Members, workers: Workers, home_fd: int, held: bool = False) -> None:
        """``held``: workers are told of no workload before ``release``."""
        self._held = held
        self._members = members
        self._workers = workers
        self._home_fd = home_fd
        self._found = Found({})
        self._enrolled: dict[str, tuple[Workload, InPod]] = {}
        self._captured: set[str] = set()
        self._failed: dict[str, str] = {}
        self._taken_off: dict[str, str] = {}
        """uid -> why the agent took the workload off the fast path."""
        self._lock = asyncio.Lock()

    def introduce(self, slot: WorkerSlot, hello: Hello) -> None:
        """Tell a worker which workloads it shall serve, beside those that it already does."""
        if self._held:
            return
        for uid in set(hello.workloads) - self._enrolled.keys():
            slot.send(RemoveWorkload(uid=uid))
        self._introduce(slot, hello.workloads)

    def _introduce(self, slot: WorkerSlot, known: Collection[str]) -> None:
        slot.introduced = frozenset(self._enrolled)
        for uid, (workload, pod) in self._enrolled.items():
            if uid in known:
                slot.enrolled.add(uid)
            else:
                slot.send(AddWorkload(workload=workload), pod.fds())

    def release(self) -> None:
        """Let all workers accept."""
        self._held = False
        for slot in self._workers.slots:
            self._introduce(slot, ())

    def take_over(self, slot: WorkerSlot, holding: Holding, fds: tuple[int, ...]) -> None:
        """A worker of an earlier agent serves this workload already: go on with its listeners."""
        workload = holding.workload
        try:
            pod = adopt(fds, self._home_fd)
        except EnrolmentError as error:
            log.event(
                _logger, logging.ERROR, "workload not taken over", workload=_name(workload), reason=error
            )
            return
        if workload.uid in self._enrolled:
            pod.close()
            return
        self._enrolled[workload.uid] = (workload, pod)
        self._capture(workload, pod)
        log.event(_logger, logging.INFO, "workload taken over", workload=_name(workload), worker=slot.place)

    async def reconcile(self, found: Found) -> None:
        """Make what is enrolled what is found. Failures are kept for ``retry`` and for the view."""
        async with self._lock:
            self._found, desired = found, found.workloads
            self._failed = {uid: why for uid, why in self._failed.items() if uid in desired}
            for uid, (workload, _) in list(self._enrolled.items()):
                if (wanted := desired.get(uid)) is None or wanted.netns != workload.netns:
                    self._remove(uid)
            for uid, workload in desired.items():
                if uid not in self._enrolled:
                    await self._add(workload)
                elif self._enrolled[uid][0] != workload:
                    pod = self._enrolled[uid][1]
                    await self._announce(workload, pod)
                    self._capture(workload, pod)
            # Those of pods that went while no agent ran.
            for cookie in self._members.members() - {pod.cookie for _, pod in self._enrolled.values()}:
                self._members.remove_member(cookie)

    async def retry(self) -> None:
        """Try the failed ones again, until cancelled."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if self._failed:
                await self.reconcile(self._found)

    def view(self) -> tuple[WorkloadView, ...]:
        """All pods that are known, by namespace and name."""
        workloads = {**{uid: w for uid, (w, _) in self._enrolled.items()}, **self._found.workloads}
        views = [
            WorkloadView(
                namespace=w.namespace,
                name=w.name,
                uid=uid,
                ips=w.ips,
                netns=w.netns,
                enrolled=uid in self._captured,
                port=self._enrolled[uid][1].port if uid in self._enrolled else 0,
                reason="" if uid in self._captured else self._failed.get(uid, "being enrolled"),
                fast_path="on" if (choice := self._fast_path(w)).on else "off",
                fast_path_reason=choice.reason,
            )
            for uid, w in workloads.items()
        ]
        views += [
            WorkloadView(
                namespace=each.namespace,
                name=each.name,
                uid=each.uid,
                ips=(),
                netns="",
                enrolled=False,
                port=0,
                reason=each.reason,
            )
            for each in self._found.left_out
            if each.uid not in workloads
        ]
        return tuple(sorted(views, key=lambda view: (view.namespace, view.name, view.uid)))

    def cookies(self) -> dict[int, Workload]:
        """The enrolled workloads by the cookie of their network namespace."""
        return {pod.cookie: workload for workload, pod in self._enrolled.values()}

    def by_netns(self) -> dict[int, tuple[int, Workload]]:
        """The enrolled workloads, with their cookie, by the inode of their network namespace."""
        return {
            os.fstat(pod.netns_fd).st_ino: (pod.cookie, workload) for workload, pod in self._enrolled.values()
        }

    def take_off(self, uid: str, reason: str) -> None:
        """Let the kernel carry no request of a workload from now on. Raises CaptureError."""
        if uid in self._taken_off or uid not in self._enrolled:
            return
        workload, pod = self._enrolled[uid]
        self._taken_off[uid] = reason
        self._capture(workload, pod)
        log.event(
            _logger,
            logging.WARNING,
            "workload taken off the fast path",
            workload=_name(workload),
            reason=reason,
        )

    def close(self) -> None:
        """Close our descriptors. Workers and the kernel go on with theirs."""
        for _, pod in self._enrolled.values():
            pod.close()
        self._enrolled.clear()
        self._captured.clear()

    async def _add(self, workload: Workload) -> None:
        try:
            pod = open_in_pod(workload.netns, self._home_fd)
        except EnrolmentError as error:
            if self._failed.get(workload.uid) != str(error):
                log.event(
                    _logger, logging.ERROR, "workload not enrolled", workload=_name(workload), reason=error
                )
            self._failed[workload.uid] = str(error)
            return
        await self._announce(workload, pod)
        self._capture(workload, pod)
        self._failed.pop(workload.uid, None)
        log.event(
            _logger,
            logging.INFO,
            "workload enrolled",
            workload=_name(workload),
            netns=workload.netns,
            cookie=pod.cookie,
            port=pod.port,
        )

    async def _announce(self, workload: Workload, pod: InPod) -> None:
        self._enrolled[workload.uid] = (workload, pod)
        if not self._held:
            self._workers.broadcast(AddWorkload(workload=workload), pod.fds())
            await self._workers.enrolled(workload.uid)

    def _capture(self, workload: Workload, pod: InPod) -> None:
        choice = self._fast_path(workload)
        self._members.set_member(pod.cookie, pod.port, pod.ipv6, choice.on, choice.joins, workload.ips)
        self._captured.add(workload.uid)
        if choice.on and choice.reason:
            log.event(
                _logger, logging.WARNING, "bad annotation", workload=_name(workload), reason=choice.reason
            )

    def _fast_path(self, workload: Workload) -> FastPathChoice:
        if taken_off := self._taken_off.get(workload.uid):
            return FastPathChoice(False, reason=taken_off)
        return annotated_choice(workload.annotations)

    def _remove(self, uid: str) -> None:
        workload, pod = self._enrolled.pop(uid)
        self._captured.discard(uid)
        self._taken_off.pop(uid, None)
        self._members.remove_member(pod.cookie)
        self._workers.broadcast(RemoveWorkload(uid=uid))
        for slot in self._workers.slots:
            slot.enrolled.discard(uid)
            slot.introduced -= {uid}
        pod.close()
        log.event(_logger, logging.INFO, "workload removed", workload=_name(workload), cookie=pod.cookie)


def _name(workload: Workload) -> str:
    return f"{workload.namespace}/{workload.name}"
