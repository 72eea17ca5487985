"""The closed loop: how wrk is called, and what its report says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from meshd.bench.distribution import as_measured
from meshd.bench.samples import HeadSizes, LoadError, Samples

SCRIPT = Path(__file__).with_name("wrk_report.lua")
_MARK = "REPORT "


class _Report(msgspec.Struct, frozen=True):
    """The line that wrk_report.lua writes."""

    requests: int
    microseconds: int
    bytes: int
    errors: int
    latencies: list[tuple[int, int]]


def command(
    url: str, headers: Mapping[str, str], connections: int, seconds: int, script: Path = SCRIPT
) -> list[str]:
    """wrk with one thread: that is faster than one server. ``script`` has to report as SCRIPT does."""
    fields = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    return [
        "wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s",
        "--timeout", "10s", "--script", str(script), *fields, url,
    ]  # fmt: skip


def samples(output: str, connections: int, body_bytes: int, heads: HeadSizes) -> Samples:
    """What a run showed. ``heads``: how long the heads of right answers are. Raises LoadError.

    wrk does not look at bodies. But it counts bytes: a run whose bytes are not those of so many right answers
    had wrong ones among them, and all of its requests count as errors. The least that is noticed is what its
    connections may have in flight at the end.
    """
    line = next((x for x in output.splitlines() if x.startswith(_MARK)), None)
    if line is None:
        raise LoadError(f"wrk wrote no report: {output.strip()[-300:] or 'nothing at all'}")
    try:
        report = msgspec.json.decode(line.removeprefix(_MARK), type=_Report)
    except msgspec.DecodeError as error:
        raise LoadError(f"wrk's report: {error}") from error
    if not report.requests:
        raise LoadError(f"wrk got no answer at all, and {report.errors} errors")
    least = report.requests * (heads.least + body_bytes)
    # What has begun to come when wrk ends is in its bytes, not in its requests.
    most = (report.requests + connections) * (heads.most + body_bytes)
    wrong = "" if least <= report.bytes <= most else (
        f"{report.requests} right answers have {least} to {most} bytes, and {report.bytes} came"
    )  # fmt: skip
    errors = report.errors or (report.requests if wrong else 0)
    seconds = report.microseconds / 1e6
    if errors:
        return Samples(0, seconds, errors, wrong or f"wrk counted {errors} errors", {})
    interval = report.microseconds // max(1, report.requests // connections)
    try:
        latencies = as_measured(dict(report.latencies), interval)
    except ValueError as error:
        raise LoadError(f"wrk's latencies are not what wrk 4 reports: {error}") from error
    if (found := sum(latencies.values())) != report.requests:
        raise LoadError(f"wrk reports {found} latencies of {report.requests} requests")
    return Samples(report.requests, seconds, 0, "", latencies)
