"""``meshd status`` and its like: what the agents on this machine say of themselves."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from meshd.cli.asking import add_options, agent_sockets, get, print_json
from meshd.cli.status_text import percentage, status_text, why_left_out
from meshd.cli.table import table
from meshd.gateway.route_status import object_status
from meshd.model.status import ROUTE_KINDS, ObjectStatus
from meshd.model.view import (
    EndpointView,
    FlowsView,
    FlowView,
    RouteView,
    ServiceView,
    StatusView,
    WorkloadView,
)

_View = TypeVar("_View", bound=msgspec.Struct)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    for name, help_text, view in (
        ("status", "the node at a glance: control plane, workers, capture, problems", _status),
        ("services", "service ports and what they lead to", _services),
        ("routes", "routes in the order in which they are tried", _routes),
        ("endpoints", "endpoints of every cluster", _endpoints),
        ("workloads", "the pods of this node and whether they are enrolled", _workloads),
        ("flows", "captured connections: the path that their requests take, endpoints, age", _flows),
    ):
        parser = commands.add_parser(name, help=help_text, description=help_text)
        add_options(parser)
        parser.set_defaults(run=run, view=view)


def run(args: argparse.Namespace) -> int:
    """Ask the agents and print their answers."""
    sockets = agent_sockets(args.instance)
    return int(args.view(sockets, args.output == "json"))


def _status(sockets: Sequence[Path], as_json: bool) -> int:
    nodes = [_ask(path, "status", StatusView) for path in sockets]
    if as_json:
        print_json({"nodes": nodes})
    else:
        print("\n\n".join(map(status_text, nodes)))
    return 0


def _services(sockets: Sequence[Path], as_json: bool) -> int:
    return _list(
        sockets,
        as_json,
        "services",
        ServiceView,
        ("SERVICE", "ADDRESSES", "PROTOCOL", "ON FAILURE", "ROUTES", "ENDPOINTS", "REQUESTS", "IN KERNEL"),
        lambda s: (
            s.name,
            ",".join(s.addresses),
            s.protocol,
            s.failure_policy,
            s.routes if s.used else "-",
            f"{s.healthy}/{s.endpoints}" if s.used else "not in use",
            s.requests,
            percentage(s.fast_requests, s.requests),
        ),
    )


def _routes(sockets: Sequence[Path], as_json: bool) -> int:
    """What is in force, and what the routes' authors are told of it."""
    statuses = {status.node: status for status in (_ask(path, "status", StatusView) for path in sockets)}
    answers = {
        node: _ask_all(path, "routes", RouteView) for node, path in zip(statuses, sockets, strict=True)
    }
    told = {node: [each for each in status.objects if each.parents] for node, status in statuses.items()}
    if as_json:
        print_json(
            {
                "nodes": [
                    {
                        "node": node,
                        "routes": routes,
                        **{
                            f"{kind.removesuffix('Route').lower()}Routes": [
                                {"namespace": o.namespace, "name": o.name, "status": object_status(o)}
                                for o in told[node]
                                if o.kind == kind
                            ]
                            for kind in sorted(ROUTE_KINDS)
                        },
                        "policies": [
                            {
                                "kind": o.kind,
                                "namespace": o.namespace,
                                "name": o.name,
                                "status": object_status(o),
                            }
                            for o in told[node]
                            if o.kind not in ROUTE_KINDS
                        ],
                    }
                    for node, routes in answers.items()
                ]
            }
        )
        return 0
    several = len(answers) > 1
    header = ("SERVICE", "CALLERS", "ROUTE", "MATCH", "ACTION", "REQUESTS")
    rows = [
        [*([node] if several else []), r.service, r.callers or "*", r.name, r.match, r.action, r.requests]
        for node, routes in answers.items()
        for r in routes
    ]
    print(table(["NODE", *header] if several else header, rows))
    if unused := sum(each.demand.known - each.demand.used for each in statuses.values()):
        print(f"and those of {unused} service ports that are not in use")
    # All nodes have them from one control plane.
    objects = dict.fromkeys(each for several in told.values() for each in several)
    for kind in sorted(ROUTE_KINDS):
        if conditions := [row for each in objects if each.kind == kind for row in _told(each)]:
            print()
            print(table((kind.upper(), "PARENT", "ACCEPTED", "RESOLVED REFS", "MESSAGE"), conditions))
    if conditions := [row for each in objects if each.kind not in ROUTE_KINDS for row in _told(each)]:
        print()
        print(table(("POLICY", "TARGET", "ACCEPTED", "MESSAGE"), conditions))
    return 0


def _told(of: ObjectStatus) -> Iterator[tuple[str, ...]]:
    name = f"{of.namespace}/{of.name}"
    for parent in of.parents:
        words = ["yes" if each.status else each.reason for each in parent.conditions]
        message = "; ".join(each.message for each in parent.conditions if each.message)
        shown = name if of.kind in ROUTE_KINDS else f"{of.kind} {name}"
        yield (shown, parent.parent, *words, message or "-")


def _endpoints(sockets: Sequence[Path], as_json: bool) -> int:
    return _list(
        sockets,
        as_json,
        "endpoints",
        EndpointView,
        ("CLUSTER", "ADDRESS", "PORT", "WEIGHT", "PRIORITY", "LOCALITY", "HEALTH", "WORKLOAD", "WHY"),
        lambda e: (
            *(e.cluster, e.address, e.port, e.weight, e.priority, e.locality or "-", e.health),
            e.workload or "-",
            why_left_out(e) or "-",
        ),
    )


def _workloads(sockets: Sequence[Path], as_json: bool) -> int:
    return _list(
        sockets,
        as_json,
        "workloads",
        WorkloadView,
        ("NAMESPACE", "NAME", "IPS", "ENROLLED", "PORT", "FAST PATH", "REASON"),
        lambda w: (
            w.namespace,
            w.name,
            ",".join(w.ips),
            "yes" if w.enrolled else "no",
            w.port,
            w.fast_path,
            w.reason or w.fast_path_reason or "-",
        ),
    )


def _flows(sockets: Sequence[Path], as_json: bool) -> int:
    answers = {_ask(path, "status", StatusView).node: _ask(path, "flows", FlowsView) for path in sockets}
    if as_json:
        print_json(
            {"nodes": [{"node": node, "flows": a.flows, "more": a.more} for node, a in answers.items()]}
        )
        return 0
    header = [
        "WORKLOAD",
        "CLIENT",
        "SERVICE",
        "PATH",
        "STATE",
        "CARRIED",
        "UPCALLS",
        "ENDPOINTS",
        "AGE",
        "RULES",
    ]
    several = len(answers) > 1
    rows = [
        [*([node] if several else []), *_flow_row(flow)] for node, a in answers.items() for flow in a.flows
    ]
    print(table(["NODE", *header] if several else header, rows))
    more = sum(answer.more for answer in answers.values())
    if more:
        print(f"and {more} more")
    return 0


def _flow_row(flow: FlowView) -> Sequence[object]:
    return (
        flow.workload,
        flow.client,
        flow.service,
        flow.path,
        flow.state,
        flow.carried,
        flow.upcalls,
        ",".join(flow.endpoints) or "-",
        "-" if flow.age_seconds is None else f"{flow.age_seconds:.0f} s",
        "current" if flow.current else "old" if flow.state in ("idle", "busy") else "-",
    )


def _list(
    sockets: Sequence[Path],
    as_json: bool,
    document: str,
    kind: type[_View],
    header: Sequence[str],
    row: Callable[[_View], Sequence[object]],
) -> int:
    """Lists of several agents, each under its node's name where there is more than one."""
    answers: dict[str, list[_View]] = {
        _ask(path, "status", StatusView).node: _ask_all(path, document, kind) for path in sockets
    }
    if as_json:
        print_json({"nodes": [{"node": node, document: items} for node, items in answers.items()]})
        return 0
    if len(answers) == 1:
        print(table(header, map(row, *answers.values())))
    else:
        rows = [(node, *row(item)) for node in answers for item in answers[node]]
        print(table(("NODE", *header), rows))
    return 0


def _ask(path: Path, document: str, kind: type[_View]) -> _View:
    return msgspec.json.decode(get(path, document), type=kind)


def _ask_all(path: Path, document: str, kind: type[_View]) -> list[_View]:
    return [msgspec.convert(item, kind) for item in msgspec.json.decode(get(path, document), type=list)]
