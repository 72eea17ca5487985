"""The server of all scenarios but the streams': nginx's config, and the files that it serves. Pure.

It speaks each protocol on a port of its own. A gRPC call is answered with one message from a file and
``grpc-status: 0`` as trailers. Static files know no POST: that is what its 405 is for. And nginx would
answer before it has read the request, and so reset each stream; the mirror to nowhere has it read first.
By sendfile(2) head, message and trailers would be a system call each: a server of gRPC writes them at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshd.bench.wanted import PORTS, body, message, path

_LITERAL = 4096
"""Longest body, in bytes, that is in nginx's config; longer ones are files that it sends with sendfile."""
CALLS = "calls"
"""The folder of gRPC's messages."""

_CONFIG = """\
daemon off;
worker_processes 1;
user root;
worker_rlimit_nofile 16384;
error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  sendfile on;
  default_type application/octet-stream;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  http2_max_concurrent_streams 1024;
  open_file_cache max=64 inactive=1h;
  open_file_cache_valid 1h;
  server {{
    listen {http1} backlog=4096;
    listen [::]:{http1} backlog=4096;
    listen {h2} backlog=4096 http2;
    listen [::]:{h2} backlog=4096 http2;
{locations}
  }}
  server {{
    listen {grpc} backlog=4096 http2;
    listen [::]:{grpc} backlog=4096 http2;
    default_type application/grpc;
    etag off;
    add_trailer grpc-status 0 always;
    root {calls};
    sendfile off;
    error_page 405 =200 $uri;
    mirror /read;
    location = /read {{ internal; return 204; }}
  }}
}}
"""


def config(sizes: Iterable[int]) -> str:
    """One worker, no log."""
    locations = "\n".join(
        f'    location = {path(size)} {{ return 200 "{body(size).decode()}"; }}'
        if size <= _LITERAL
        else f"    location = {path(size)} {{ root .; }}"
        for size in sizes
    )
    return _CONFIG.format(
        http1=PORTS["http1"], h2=PORTS["h2"], grpc=PORTS["grpc"], calls=CALLS, locations=locations
    )


def files(sizes: Iterable[int]) -> dict[str, bytes]:
    """Those beside the config, by their paths: long bodies, and gRPC's messages."""
    sizes = tuple(sizes)
    found = {path(size).lstrip("/"): body(size) for size in sizes if size > _LITERAL}
    return found | {f"{CALLS}{path(size)}": message(body(size)) for size in sizes}
