"""How scenarios, loads and figures are written, in every form of the report."""

from __future__ import annotations

from collections.abc import Mapping

from meshd.bench.results import Case, Figure, Party, Placement, Protocol, Range, Scenario

SCENARIO: Mapping[Scenario, str] = {
    "direct": "direct",
    "sidecar": "sidecar",
    "node-proxy": "node proxy",
    "node-proxy-sockmap": "node proxy + sockmap",
    "meshd-slow": "meshd slow path",
    "meshd-fast": "meshd",
}
MEANING: Mapping[Scenario, str] = {
    "direct": "no mesh: the client calls the server",
    "sidecar": "an Envoy in each pod, iptables REDIRECT in the pod's network namespace",
    "node-proxy": "one Envoy a node for all its pods",
    "node-proxy-sockmap": "the same, with sockmap acceleration between app and Envoy",
    "meshd-slow": "meshd with its fast path off: its proxy takes every request",
    "meshd-fast": "meshd as installed: the kernel carries what it can, its proxy the rest; "
    "connections of HTTP/2 are spliced (meshd.io/http2-fast-path) where no route has something to decide",
}
PLACEMENT: Mapping[Placement, str] = {"same-node": "same node", "two-nodes": "two nodes"}
PROTOCOL: Mapping[Protocol, str] = {
    "http1": "HTTP/1.1 keep-alive",
    "http1-close": "HTTP/1.1, new connection per request",
    "h2": "HTTP/2",
    "grpc": "gRPC, unary",
    "grpc-stream": "gRPC, messages on open streams",
}
_SHORT: Mapping[Protocol, str] = {
    "http1": "keep-alive",
    "http1-close": "new connections",
    "grpc-stream": "gRPC streams",
}
PARTY: Mapping[Party, str] = {
    "client": "client",
    "app": "server app",
    "proxy": "mesh",
    "softirq": "kernel (softirq)",
}
FIGURE: Mapping[Figure, str] = {
    "rps": "throughput",
    "p50_us": "p50 latency",
    "p90_us": "p90 latency",
    "p99_us": "p99 latency",
    "p999_us": "p99.9 latency",
    "max_us": "max latency",
    "cpu_us_per_request": "CPU per request",
}
NONE = "–"
"""In place of a figure that was not taken."""


def load(case: Case) -> str:
    """A case without its scenario and rate, in one line."""
    what = "connection" if case.protocol in ("http1", "http1-close") else "stream"
    plural = "" if case.connections == 1 else "s"
    return " · ".join(
        (
            PLACEMENT[case.placement],
            f"{case.connections} {what}{plural}",
            size(case.body_bytes),
            PROTOCOL[case.protocol],
            "with route" if case.route else "no route",
        )
    )


def load_lines(case: Case) -> tuple[str, str]:
    """The same, shorter, in two parts; c is the number of connections or streams."""
    first, _, octets, protocol, route = load(case).split(" · ")
    short = _SHORT.get(case.protocol, protocol)
    return f"{first}, c={case.connections}, {octets}", short if case.route else f"{short}, {route}"


def size(octets: int) -> str:
    """16 B, 1 KB, 16 KB, 1 MB; powers of two."""
    for unit, factor in (("MB", 1 << 20), ("KB", 1 << 10)):
        if octets >= factor:
            return f"{octets / factor:.4g} {unit}"
    return f"{octets} B"


def time(us: float | None) -> str:
    """Microseconds, in the unit that suits them, to three digits."""
    if us is None:
        return NONE
    for unit, factor in (("s", 1e6), ("ms", 1e3)):
        if us >= factor * 0.9995:
            return f"{_digits(us / factor)} {unit}"
    return f"{_digits(us)} µs"


def tick_time(us: float) -> str:
    """A round time, shorter: 100 µs, 2 ms."""
    for unit, factor in (("s", 1e6), ("ms", 1e3)):
        if us >= factor * 0.9995:
            return f"{us / factor:.4g} {unit}"
    return f"{us:.4g} µs"


def tick_count(value: float) -> str:
    """A round figure, shorter: 500, 2k, 1M."""
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.4g}{unit}"
    return f"{value:.4g}"


def tick_memory(mb: float) -> str:
    """Round megabytes."""
    return f"{mb / 1000:.4g} GB" if mb >= 1000 else f"{mb:.4g} MB"


def count(value: float | None) -> str:
    """A figure with separators between thousands."""
    return NONE if value is None else f"{value:,.0f}" if value >= 10 else _digits(value)


def memory(mb: float | None) -> str:
    """Megabytes, in gigabytes (of 1,000) where they are many."""
    if mb is None:
        return NONE
    return f"{_digits(mb / 1000)} GB" if mb >= 10_000 else f"{mb:,.0f} MB"


def figure(name: Figure, value: float | None) -> str:
    """A figure in its unit; throughput has none."""
    return count(value) if name == "rps" else time(value)


def times(ratio: float) -> str:
    """22.3×, 0.67×, 0.024×."""
    return f"{_digits(ratio)}×" if ratio >= 0.001 or not ratio else "<0.001×"


def spread(found: Range) -> str:
    """Of ratios over the rounds: 20.1× to 24.0×."""
    low, high = map(times, found)
    return f"{low} in each round" if low == high else f"{low} to {high} over the rounds"


def range_percent(value: float, found: Range) -> str:
    """How far least and most are from a figure: −3 +2 %."""
    low, high = (100 * (end - value) / value for end in found)
    return "±0 %" if max(-low, high) < 0.5 else f"−{abs(low):.0f} +{high:.0f} %"


def capital(text: str) -> str:
    """With a capital letter at its beginning; p99 and meshd have none."""
    return text if text.startswith(("p5", "p9", "meshd")) else text[:1].upper() + text[1:]


def _digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:,.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 or not value else f"{value:.2g}"
