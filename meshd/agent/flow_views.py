"""Open captured connections as ``meshd flows`` lists them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from meshd.datapath.flows.listing import FlowState, OpenFlow
from meshd.model.view import FlowView


def flow_views(
    flows: Iterable[OpenFlow],
    workloads: Mapping[int, str],
    services: Mapping[tuple[str, int], str],
    rules: Collection[int],
    now: float,
) -> tuple[FlowView, ...]:
    """By workload and client.

    ``workloads``: ``namespace/name`` by netns cookie; ``services``: listeners by VIP and port; ``rules``: the
    fingerprints in force; ``now``: time.monotonic.
    """
    return tuple(
        FlowView(
            workload=workloads.get(flow.netns, f"netns {flow.netns}"),
            client=_end(flow.client),
            service=services.get(flow.destination, _end(flow.destination)),
            path=_path(flow),
            state=_state(flow),
            carried=flow.spliced.requests if flow.spliced else flow.requests,
            upcalls=flow.upcalls,
            endpoints=tuple(map(_end, (flow.spliced.endpoint,) if flow.spliced else flow.endpoints)),
            age_seconds=round(now - flow.opened, 3) if flow.opened else None,
            current=flow.rules in rules,
        )
        for flow in sorted(flows, key=lambda flow: (workloads.get(flow.netns, ""), flow.client))
    )


def _path(flow: OpenFlow) -> str:
    if flow.spliced:
        return "spliced"
    return "kernel" if flow.requests and flow.state is not FlowState.NEW else "proxy"


def _state(flow: OpenFlow) -> str:
    if flow.spliced is None:
        return flow.state.value
    up, down = flow.spliced.up, flow.spliced.down
    return "half" if up != down else "redirected" if up else "relayed"


def _end(end: tuple[str, int]) -> str:
    address, port = end
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
