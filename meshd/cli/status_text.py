"""``meshd status`` for a person."""

from __future__ import annotations

from collections.abc import Iterator

from meshd.model.status import ObjectStatus, Severity
from meshd.model.view import EndpointView, HealthView, StatusView

_MIB = 1024 * 1024
_UPCALLS_SHOWN = 6


def status_text(status: StatusView) -> str:
    """One node, some lines; what is wrong comes last, where it is seen."""
    return "\n".join(_lines(status))


def _lines(status: StatusView) -> Iterator[str]:
    control = status.control
    connection = "connected" if control.connected else f"away ({control.last_error or 'not reached yet'})"
    yield f"Node {status.node}  (meshd {status.version}, agent up {status.uptime_seconds:.0f} s)"
    yield f"  Control plane  {control.target} {connection}, generation {status.generation}"
    for worker in status.workers:
        size = f"{worker.rss_bytes / _MIB:.0f} MB"
        state = f"{worker.state}, {size}, restarts {worker.restarts}"
        yield f"  Worker {worker.worker}       pid {worker.pid} {state}"
    yield f"  Agent          pid {status.pid}, {status.rss_bytes / _MIB:.0f} MB"
    yield f"  Fast path      {status.capture.fast_path} ({status.capture.fast_path_reason})"
    yield from _fast_path(status)
    counters = ", ".join(
        f"{name} {count}" for name, count in sorted(status.capture.counters.items()) if count
    )
    yield f"  Capture        {counters or 'nothing yet'}; open flows {status.capture.flows}"
    used = f" ({status.demand.used} in use)" if status.demand.on else ""
    sizes = f"services {status.services}{used}, endpoints {status.endpoints}, workloads {status.workloads}"
    yield f"  Config         {sizes}"
    yield f"  Requests       {status.requests}, failed (5xx, or such a gRPC status) {status.failed_requests}"
    yield from _health(status.health)
    problems = [line for status_of in status.objects for line in _problems(status_of)]
    problems += [f"{name}: refused: {why}" for name, why in sorted(control.refused.items())]
    yield f"  Problems       {len(problems) or 'none'}"
    for line in problems:
        yield f"    {line}"


def _fast_path(status: StatusView) -> Iterator[str]:
    capture = status.capture
    if status.requests:
        share = percentage(capture.fast_path_requests, status.requests)
        yield f"                 carried {capture.fast_path_requests} of {status.requests} requests ({share})"
    if capture.spliced_connections:
        connections, requests = capture.spliced_connections, capture.spliced_requests
        yield f"                 spliced {connections} HTTP/2 connections, with {requests} requests"
    upcalls = sorted(capture.upcalls.items(), key=lambda item: -item[1])
    if upcalls:
        shown = ", ".join(f"{reason} {count}" for reason, count in upcalls[:_UPCALLS_SHOWN])
        rest = sum(count for _, count in upcalls[_UPCALLS_SHOWN:])
        yield f"                 upcalls: {shown}{f', others {rest}' if rest else ''}"
    if capture.verdict_program_needed is not None:
        needed = "yes" if capture.verdict_program_needed else "no"
        yield f"                 verdict program needed: {needed}"


def _health(health: HealthView) -> Iterator[str]:
    """Nothing where no cluster has a policy that anything could come of."""
    ejections = sum(health.ejections.values())
    if not (health.probed or health.left_out or ejections):
        return
    counts = f"endpoints probed {health.probed}, ejections {ejections}, left out {health.left_out}"
    yield f"  Health         {counts}"
    for endpoint in health.examples:
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        who = f"{endpoint.cluster} {host}:{endpoint.port} {endpoint.workload or '-'}"
        yield f"    {who}: {why_left_out(endpoint)}"
    if health.left_out > len(health.examples):
        yield f"    and {health.left_out - len(health.examples)} more (meshd endpoints)"


def why_left_out(endpoint: EndpointView) -> str:
    """``probe: HTTP status 500, for 12 s``; empty: it is not."""
    if not endpoint.by or endpoint.seconds is None:
        return endpoint.by
    return f"{endpoint.by}: {endpoint.reason}, for {endpoint.seconds:.0f} s"


def percentage(part: int, whole: int) -> str:
    """``99.8 %``; ``-`` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _problems(status: ObjectStatus) -> Iterator[str]:
    name = f"{status.namespace}/{status.name}" if status.namespace else status.name
    where = f"{status.kind} {name}" + (f" ({status.source})" if status.source else "")
    for problem in status.problems:
        field = f"{problem.field}: " if problem.field else ""
        yield f"{where}: {problem.severity.value}: {field}{problem.message}"
    # An error says the same as the condition that follows from it, and with the field.
    if any(problem.severity is Severity.ERROR for problem in status.problems):
        return
    for parent in status.parents:
        for condition in parent.conditions:
            if not condition.status:
                why = f"{condition.reason}: {condition.message}"
                yield f"{where}: {parent.parent}: not {condition.type}: {why}"
