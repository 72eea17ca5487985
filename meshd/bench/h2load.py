"""The closed loop of HTTP/2 and gRPC: how h2load is called, and what it says. Pure.

One connection, as many streams at a time as the load has connections: that is how a gRPC client asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from meshd.bench import wanted
from meshd.bench.http2_client import GRPC_HEADERS
from meshd.bench.plan import Load
from meshd.bench.samples import LoadError, Samples

_REQUESTS = re.compile(
    r"^requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", re.M
)
_TRAFFIC = re.compile(r"^traffic: .*\((\d+)\) data$", re.M)


def command(load: Load, headers: Mapping[str, str], seconds: int, folder: Path) -> list[str]:
    """h2load with one thread. ``folder``: of its log, and of the message that ``prepare`` puts there."""
    fields = [*(GRPC_HEADERS if load.protocol == "grpc" else ()), *headers.items()]
    call = ["--data", str(folder / _MESSAGE)] if load.protocol == "grpc" else []
    return [
        "h2load", "--clients", "1", "--max-concurrent-streams", str(load.connections),
        "--duration", str(seconds), "--log-file", str(folder / _LOG), *call,
        *(part for name, value in fields for part in ("--header", f"{name}: {value}")), wanted.url(load),
    ]  # fmt: skip


_MESSAGE, _LOG = "message", "log"


def prepare(folder: Path) -> None:
    """What h2load reads. Raises OSError."""
    (folder / _MESSAGE).write_bytes(wanted.QUESTION)


def log(folder: Path) -> str:
    """What h2load has written of each request; empty: nothing. Raises OSError."""
    file = folder / _LOG
    return file.read_text() if file.exists() else ""


def samples(load: Load, output: str, log: str) -> Samples:
    """What a run showed. ``log``: a line for each answer, with start (microseconds), status, and
    microseconds. Raises LoadError.

    h2load knows statuses and streams that were reset, and looks neither at bodies nor at grpc-status. But it
    counts the bytes of content: a gRPC error that a mesh makes has no message (PROTOCOL-HTTP2.md,
    Trailers-Only), so the bytes of a run with one are too few, and all of its requests count as errors. The
    least that is noticed is what may be in flight at the end.
    """
    requests, traffic = _REQUESTS.search(output), _TRAFFIC.search(output)
    if requests is None or traffic is None:
        raise LoadError(f"h2load wrote no report: {output.strip()[-300:] or 'nothing at all'}")
    _, done, succeeded, failed, errored = map(int, requests.groups())
    if not done:
        raise LoadError(f"h2load got no answer at all, and {failed + errored} errors")
    lines = [line.split("\t") for line in log.splitlines()]
    if statuses := {line[1] for line in lines} - {"200"}:
        return Samples(0, 0.0, failed or done, f"answered with status {', '.join(sorted(statuses))}", {})
    if failed or errored or succeeded != done:
        return Samples(0, 0.0, failed + errored, f"h2load counted {failed + errored} errors", {})
    size = load.body_bytes + (wanted.PREFIX_BYTES if load.protocol == "grpc" else 0)
    data, most = int(traffic[1]), (done + load.connections) * size
    if not done * size <= data <= most:
        wrong = f"{done} right answers have {done * size} to {most} bytes of content, and {data} came"
        return Samples(0, 0.0, done, wrong, {})
    if len(lines) != done:
        raise LoadError(f"h2load reports {len(lines)} latencies of {done} requests")
    latencies: dict[int, int] = {}
    for line in lines:
        latencies[int(line[2])] = latencies.get(int(line[2]), 0) + 1
    first = min(int(line[0]) for line in lines)
    last = max(int(line[0]) + int(line[2]) for line in lines)
    return Samples(done, (last - first) / 1e6, 0, "", latencies)
