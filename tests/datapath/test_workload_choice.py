"""Which workloads' sockets may be enrolled: the agent's enrolment against the kernel's members."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from meshd import netns
from meshd.agent.annotations import FAST_PATH
from meshd.agent.enrolment import Enrolment
from meshd.agent.worker_start import WorkerStart
from meshd.agent.workers import Greeting, Workers
from meshd.build import Build
from meshd.datapath.datapath import Datapath
from meshd.model.workload import Workload
from meshd.workloads.found import Found
from tests.support.netns import Namespace, namespace


class Node:
    """An enrolment without workers."""

    def __init__(self, datapath: Datapath, folder: Path, pod: Namespace) -> None:
        self._datapath = datapath
        self._home = netns.open_own()
        workers = Workers(
            0, folder, Greeting(*[lambda *_: None] * 5), WorkerStart(Build("", ""), 2), asyncio.Event()
        )
        self.enrolment = Enrolment(datapath, workers, self._home)
        self._pod = pod
        self.workload = Workload(uid="u", namespace="test", name="pod", netns=pod.path)

    def reconcile(self, annotation: str | None) -> None:
        annotations = {} if annotation is None else {FAST_PATH: annotation}
        self.workload = msgspec.structs.replace(self.workload, annotations=annotations)
        asyncio.run(self.enrolment.reconcile(Found({"u": self.workload})))

    def may_enrol(self) -> bool:
        """What the kernel goes by."""
        layout = self._datapath.layout
        members = self._datapath.open_map("members")
        try:
            value = members.get(self._pod.cookie.to_bytes(8, "little"))
        finally:
            members.close()
        assert value is not None
        (flags,) = layout.codec("member", "flags").unpack(value)
        return bool(flags & layout.enums["member_flag"]["MEMBER_FAST_PATH"])

    def shown(self) -> tuple[str, str]:
        (view,) = self.enrolment.view()
        return view.fast_path, view.fast_path_reason

    def close(self) -> None:
        asyncio.run(self.enrolment.reconcile(Found({})))
        self.enrolment.close()
        os.close(self._home)


@pytest.fixture
def node(datapath: Datapath, tmp_path: Path) -> Iterator[Node]:
    with namespace() as pod:
        made = Node(datapath, tmp_path, pod)
        try:
            yield made
        finally:
            made.close()


def test_a_workload_is_on_the_fast_path_unless_it_says_otherwise(node: Node) -> None:
    node.reconcile(None)
    assert node.may_enrol()
    assert node.shown() == ("on", "")


def test_the_annotation_is_followed_when_it_changes(node: Node) -> None:
    node.reconcile("off")
    assert not node.may_enrol()
    assert node.shown() == ("off", f"annotation {FAST_PATH}")
    node.reconcile("on")
    assert node.may_enrol()
    node.reconcile("off")
    assert not node.may_enrol()


def test_an_annotation_that_says_nothing_is_named(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.reconcile("no")
    assert node.may_enrol()
    on, reason = node.shown()
    assert on == "on"
    assert "'no' is neither on nor off" in reason
    assert "bad annotation" in caplog.text


def test_a_workload_that_was_taken_off_stays_off(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.reconcile(None)
    node.enrolment.take_off("u", "calls splice(2)")
    node.enrolment.take_off("u", "calls splice(2)")
    assert not node.may_enrol()
    assert node.shown() == ("off", "calls splice(2)")
    node.reconcile("on")
    assert not node.may_enrol()
    assert caplog.text.count("workload taken off the fast path") == 1
    node.enrolment.take_off("nobody", "calls splice(2)")
