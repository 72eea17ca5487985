from __future__ import annotations

import msgspec

from meshd.cli.status_text import percentage, status_text
from meshd.cli.table import table
from meshd.model.status import Condition, ObjectStatus, ParentReference, ParentStatus, Problem, Severity
from meshd.model.view import CaptureView, ControlView, EndpointView, HealthView, StatusView, WorkerView

NOT_ACCEPTED = ParentStatus(
    ref=ParentReference(kind="Service", name="web"),
    parent="Service default/web",
    conditions=(Condition(type="Accepted", status=False, reason="UnsupportedValue", message="no CORS"),),
)
STATUS = StatusView(
    node="node1",
    instance="default",
    version="0.1.0",
    pid=7,
    rss_bytes=60 << 20,
    uptime_seconds=12.3,
    generation=4,
    services=2,
    endpoints=3,
    workloads=1,
    requests=10,
    failed_requests=1,
    control=ControlView(
        target="127.0.0.1:15010",
        connected=False,
        synced=True,
        version="v",
        nacks=1,
        refused={"CDS x": "no"},
        last_error="gone",
    ),
    workers=(WorkerView(worker=0, pid=8, state="serving", generation=4, restarts=0, rss_bytes=40 << 20),),
    capture=CaptureView(
        pins="/pins",
        cgroup="/cgroup",
        fast_path="off",
        fast_path_reason="because",
        fast_path_requests=7,
        verdict_program_needed=True,
        upcalls={
            "new": 3,
            "slow": 2,
            "config": 9,
            "route": 1,
            "body": 1,
            "quiet": 1,
            "field": 1,
            "method": 1,
        },
        counters={"captured": 5, "failed_open": 0},
        flows=1,
    ),
    objects=(),
)


def _problems(*objects: ObjectStatus) -> list[str]:
    text = status_text(msgspec.structs.replace(STATUS, objects=objects))
    return [line.strip() for line in text.split("Problems")[1].splitlines()[1:]]


def test_a_node_at_a_glance() -> None:
    text = status_text(STATUS)
    assert "127.0.0.1:15010 away (gone), generation 4" in text
    assert "captured 5; open flows 1" in text
    assert _problems() == ["CDS x: refused: no"]
    assert "off (because)" in text
    assert "carried 7 of 10 requests (70.0 %)" in text
    assert "upcalls: config 9, new 3, slow 2, route 1, body 1, quiet 1, others 2" in text
    assert "verdict program needed: yes" in text


def test_a_node_without_requests_and_without_a_self_test() -> None:
    capture = msgspec.structs.replace(
        STATUS.capture, fast_path_requests=0, upcalls={}, verdict_program_needed=None
    )
    text = status_text(msgspec.structs.replace(STATUS, requests=0, capture=capture))
    assert "carried" not in text
    assert "upcalls" not in text
    assert "verdict program" not in text


def test_shares() -> None:
    assert percentage(1, 3) == "33.3 %"
    assert percentage(0, 0) == "-"


def test_a_problem_names_object_file_field_and_reason() -> None:
    problem = Problem(message="not supported", field="spec.rules[0]")
    bad = ObjectStatus(
        kind="HTTPRoute",
        namespace="default",
        name="web",
        source="a.yaml",
        problems=(problem,),
        parents=(NOT_ACCEPTED,),
    )
    assert _problems(bad) == [
        "HTTPRoute default/web (a.yaml): error: spec.rules[0]: not supported",
        "CDS x: refused: no",
    ]


def test_a_condition_without_an_error_is_shown() -> None:
    warning = Problem(message="hostnames are not used", severity=Severity.WARNING)
    route = ObjectStatus(
        kind="HTTPRoute", namespace="default", name="web", problems=(warning,), parents=(NOT_ACCEPTED,)
    )
    assert _problems(route)[:2] == [
        "HTTPRoute default/web: warning: hostnames are not used",
        "HTTPRoute default/web: Service default/web: not Accepted: UnsupportedValue: no CORS",
    ]


def test_tables_align_text_left_and_numbers_right() -> None:
    assert table(("NAME", "COUNT"), [("a", 5), ("long", 12)]) == "NAME  COUNT\na         5\nlong     12"


def test_endpoints_that_are_left_out_are_named_with_their_reason() -> None:
    assert "Health" not in status_text(STATUS)
    out = EndpointView(
        cluster="default/web:80",
        address="10.1.0.1",
        port=8080,
        weight=1,
        health="unhealthy",
        workload="default/web-1",
        by="probe",
        reason="HTTP status 500",
        seconds=7.2,
    )
    health = HealthView(probed=4, ejections={"consecutive_5xx": 2}, left_out=3, examples=(out,))
    text = status_text(msgspec.structs.replace(STATUS, health=health))
    assert "  Health         endpoints probed 4, ejections 2, left out 3\n" in text
    assert "    default/web:80 10.1.0.1:8080 default/web-1: probe: HTTP status 500, for 7 s\n" in text
    assert "    and 2 more (meshd endpoints)\n" in text
