from __future__ import annotations

from meshd.agent.flow_views import flow_views
from meshd.datapath.flows.listing import FlowState, OpenFlow, SplicedFlow

FLOW = OpenFlow(
    netns=7,
    client=("127.0.0.1", 4000),
    destination=("10.96.0.1", 80),
    requests=5,
    upcalls=1,
    state=FlowState.IDLE,
    opened=90.0,
    rules=11,
    endpoints=(("10.244.1.3", 8080), ("fd00::3", 8080)),
)
SERVICES = {("10.96.0.1", 80): "default/web:80"}


def test_a_flow_that_the_kernel_carries() -> None:
    (view,) = flow_views([FLOW], {7: "default/client"}, SERVICES, {11}, 100.0)
    assert (view.workload, view.client, view.service) == (
        "default/client",
        "127.0.0.1:4000",
        "default/web:80",
    )
    assert (view.path, view.state, view.carried, view.upcalls) == ("kernel", "idle", 5, 1)
    assert (view.endpoints, view.age_seconds) == (("10.244.1.3:8080", "[fd00::3]:8080"), 10.0)
    assert view.current


def test_a_flow_of_old_rules_and_one_that_is_not_armed() -> None:
    slow = FLOW._replace(state=FlowState.NEW, rules=0, endpoints=(), client=("127.0.0.1", 4001), opened=0.0)
    old, new = flow_views([slow, FLOW], {}, {}, {12}, 100.0)
    assert (old.workload, old.service, old.path, old.current) == ("netns 7", "10.96.0.1:80", "kernel", False)
    assert (new.path, new.state, new.age_seconds, new.current) == ("proxy", "new", None, False)


def test_a_spliced_flow() -> None:
    spliced = SplicedFlow(("10.244.1.9", 8080), 40, True, True)
    new = FLOW._replace(state=FlowState.NEW, rules=0, endpoints=(), requests=0, spliced=spliced)
    half = new._replace(spliced=spliced._replace(up=False), client=("127.0.0.1", 4001))
    relayed = half._replace(spliced=spliced._replace(up=False, down=False), client=("127.0.0.1", 4002))
    views = flow_views([new, half, relayed], {}, SERVICES, {11}, 100.0)
    assert [(view.path, view.state) for view in views] == [
        ("spliced", "redirected"),
        ("spliced", "half"),
        ("spliced", "relayed"),
    ]
    assert {(view.carried, view.endpoints) for view in views} == {(40, ("10.244.1.9:8080",))}
