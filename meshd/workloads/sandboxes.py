"""From a runtime's sandboxes and what the API server says of their pods to workloads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from meshd.model.workload import Workload
from meshd.workloads.found import Found, LeftOut
from meshd.workloads.membership import Enrol, left_out_by

_KUBELET_LABELS = "io.kubernetes."
MIRROR = "kubernetes.io/config.mirror"
"""On the API server's picture of a static pod: the uid that kubelet, and so the runtime, knows it by."""


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A pod as its runtime knows it: the holder of its network namespace."""

    id: str
    namespace: str
    name: str
    uid: str
    attempt: int = 0
    """Which of the pod's sandboxes it is: kubelet makes a new one when one has died."""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    host_network: bool = False
    netns: str = ""
    """A path that opens its network namespace; empty: see ``problem``."""
    ips: tuple[str, ...] = ()
    problem: str = ""
    """Why it cannot be entered."""


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """What people have written on an object of the API server."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class PodMarks(Marks, frozen=True, kw_only=True):
    """A pod of the API server."""

    uid: str
    service_account: str = "default"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """What the API server knows of the node's pods; empty, where it is not asked."""

    pods: Mapping[tuple[str, str], PodMarks] = {}
    """By namespace and name."""
    namespaces: Mapping[str, Marks] = {}


def found(sandboxes: Iterable[Sandbox], cluster: Cluster, enrol: Enrol) -> Found:
    """The workloads among ``sandboxes``, which are all that are ready on the node.

    What is there is the runtime's word; the API server's counts for labels and annotations, which can change
    after a sandbox is made. A pod that it has deleted stays until its sandbox goes: its requests still end.
    """
    workloads, left_out = {}, []
    for sandbox in _newest(sandboxes):
        pod = _pod(sandbox, cluster)
        namespace = cluster.namespaces.get(sandbox.namespace, Marks())
        if sandbox.host_network:
            reason = "it has the node's network namespace"
        else:
            reason = left_out_by(pod.labels, pod.annotations, namespace.labels, namespace.annotations, enrol)
        if reason := reason or sandbox.problem:
            left_out.append(LeftOut(sandbox.namespace, sandbox.name, sandbox.uid, reason))
            continue
        workloads[sandbox.uid] = Workload(
            uid=sandbox.uid,
            namespace=sandbox.namespace,
            name=sandbox.name,
            netns=sandbox.netns,
            ips=sandbox.ips,
            service_account=pod.service_account,
            labels=dict(pod.labels),
            annotations=dict(pod.annotations),
        )
    return Found(workloads, tuple(left_out))


def _newest(sandboxes: Iterable[Sandbox]) -> list[Sandbox]:
    """One a pod, by namespace and name."""
    newest: dict[str, Sandbox] = {}
    for sandbox in sandboxes:
        held = newest.get(sandbox.uid)
        if held is None or held.attempt < sandbox.attempt:
            newest[sandbox.uid] = sandbox
    return sorted(newest.values(), key=lambda each: (each.namespace, each.name, each.uid))


def _pod(sandbox: Sandbox, cluster: Cluster) -> PodMarks:
    """The API server's pod, or what the runtime was told of it when the sandbox was made."""
    pod = cluster.pods.get((sandbox.namespace, sandbox.name))
    if pod is not None and sandbox.uid in (pod.uid, pod.annotations.get(MIRROR)):
        return pod
    labels = {name: value for name, value in sandbox.labels.items() if not name.startswith(_KUBELET_LABELS)}
    return PodMarks(uid=sandbox.uid, labels=labels, annotations=sandbox.annotations)
