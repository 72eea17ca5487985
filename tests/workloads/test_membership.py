"""Who is in the mesh, and who of a runtime's sandboxes is a workload."""

from __future__ import annotations

import pytest

from meshd.workloads.containers import Container, sandbox
from meshd.workloads.membership import Enrol, left_out_by
from meshd.workloads.runtime_info import netns_paths
from meshd.workloads.sandboxes import MIRROR, Cluster, Marks, PodMarks, Sandbox, found

ON, OFF = {"meshd.io/mesh": "enabled"}, {"meshd.io/mesh": "disabled"}
NOBODY = "neither pod nor namespace has the label meshd.io/mesh: enabled"


@pytest.mark.parametrize(
    ("labels", "annotations", "of_namespace", "labelled", "everybody"),
    [
        ({}, {}, {}, NOBODY, ""),
        (ON, {}, {}, "", ""),
        ({}, {}, ON, "", ""),
        (ON, {}, OFF, "", ""),
        (OFF, {}, ON, "label meshd.io/mesh: disabled of the pod", None),
        ({}, {}, OFF, "label meshd.io/mesh: disabled of the namespace", None),
        (ON, OFF, ON, "annotation meshd.io/mesh: disabled of the pod", None),
        ({}, ON, {}, NOBODY, ""),
        ({"meshd.io/mesh": "please"}, {}, {}, NOBODY, ""),
    ],
)
def test_labels_and_annotations(
    labels: dict[str, str],
    annotations: dict[str, str],
    of_namespace: dict[str, str],
    labelled: str,
    everybody: str | None,
) -> None:
    assert left_out_by(labels, annotations, of_namespace, {}, Enrol.LABELLED) == labelled
    expected = labelled if everybody is None else everybody
    assert left_out_by(labels, annotations, of_namespace, {}, Enrol.ALL) == expected


def test_an_annotation_of_the_namespace_leaves_all_its_pods_out() -> None:
    assert left_out_by(ON, {}, {}, OFF, Enrol.ALL) == "annotation meshd.io/mesh: disabled of the namespace"


def made(name: str = "web", *, uid: str = "u", attempt: int = 0, **fields: object) -> Sandbox:
    return Sandbox(
        id=f"{name}-{uid}-{attempt}", namespace="ns", name=name, uid=uid, attempt=attempt,
        **{"netns": f"/run/netns/{name}{attempt}", **fields},  # type: ignore[arg-type]
    )  # fmt: skip


def test_of_a_pods_sandboxes_the_newest_counts() -> None:
    both = found([made(attempt=1), made(attempt=0)], Cluster(), Enrol.ALL)
    assert both.workloads["u"].netns == "/run/netns/web1"


def test_a_pod_of_that_name_that_is_another_one_says_nothing_of_it() -> None:
    """A StatefulSet's pod is deleted and made again; the old sandbox still ends its requests."""
    cluster = Cluster(pods={("ns", "web"): PodMarks(uid="new", labels=OFF)})
    assert found([made(uid="old", labels=ON)], cluster, Enrol.LABELLED).workloads.keys() == {"old"}


def test_a_static_pod_is_known_by_its_mirror() -> None:
    cluster = Cluster(pods={("ns", "web"): PodMarks(uid="other", labels=ON, annotations={MIRROR: "u"})})
    assert found([made()], cluster, Enrol.LABELLED).workloads.keys() == {"u"}


def test_the_namespaces_label_enrols_its_pods() -> None:
    cluster = Cluster(namespaces={"ns": Marks(labels=ON)})
    assert found(
        [made(labels={"io.kubernetes.pod.name": "web", "app": "a"})], cluster, Enrol.LABELLED
    ).workloads["u"].labels == {"app": "a"}


def test_a_sandbox_that_cannot_be_entered_says_why() -> None:
    left = found([made(problem="no way in")], Cluster(), Enrol.ALL).left_out
    assert [each.reason for each in left] == ["no way in"]


def test_the_runtimes_info() -> None:
    namespaces = '[{"type": "pid"}, {"type": "network", "path": "/n"}]'
    text = f'{{"pid": 7, "runtimeSpec": {{"linux": {{"namespaces": {namespaces}}}}}}}'
    assert netns_paths(text) == ("/n", "/proc/7/ns/net")
    assert netns_paths('{"pid": 7}') == ("/proc/7/ns/net",)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}'])
def test_info_that_tells_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="runtime's info"):
        netns_paths(text)


def test_a_container_that_stops_between_two_questions_is_no_workload() -> None:
    assert sandbox(Container(id="x"), "/n") is None
