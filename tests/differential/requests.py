"""A request to send, and what came of it in a form in which two proxies can be compared.

What is left out of the comparison, since it is meant to differ:

- Date, x-envoy-* and the connection-management fields: each hop's own.
- x-request-id: random; only its presence counts.
- Letter case of field names: Envoy writes them in lower case, we leave them as they came.
- Several fields of one name count as their values joined by a comma (RFC 9110, 5.3): Envoy joins some.
- The space after a comma in x-forwarded-for.
- The order of fields with different names.
- What a proxy adds to an answer of its own to name itself: Server (ours), Via (Envoy's).
- Content-Length: 0, which either proxy writes where the other writes none; both may (RFC 9110, 8.6).
- The text by which a proxy explains a failure.
- A default port in Location, which the Gateway API says not to write and Envoy writes.
- Vary: Origin, which we say with what depends on the origin.
- Fields of a preflight's answer that are empty: we leave them out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.support.raw_client import Response
from tests.support.recording_server import SEEN_HEADER, Seen, decode_seen

_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding"})
_EXPLANATIONS = (b"meshd: ", b"no healthy upstream", b"fault filter abort", b"local_rate_limited")
_OWN = frozenset({"date", "x-request-id", SEEN_HEADER})
_DEFAULT_PORT = re.compile(r"^(http(?=://[^/]*:80(/|$))|https(?=://[^/]*:443(/|$)))://([^/]*):(?:80|443)")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as the client writes it."""

    target: str = "/"
    method: str = "GET"
    host: str = "web"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    version: str = "1.1"

    def encode(self) -> bytes:
        """The bytes on the wire."""
        fields = [("Host", self.host), *self.headers]
        if self.body:
            fields.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {self.target} HTTP/{self.version}", *(f"{n}: {v}" for n, v in fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + self.body


Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All of an answer that must not depend on which proxy gave it."""

    status: int
    headers: Fields
    body: bytes
    server: str = ""
    """The server that answered; empty when the proxy answered by itself."""
    upstream: dict[str, object] = field(default_factory=dict)
    """The request as that server saw it."""


def _comparable(fields: tuple[tuple[str, str], ...]) -> Fields:
    found: Fields = {}
    for name, value in fields:
        if name in _HOP or name.startswith("x-envoy-") or name in _OWN:
            continue
        found[name] = f"{found[name]},{value}" if name in found else value
    if "x-forwarded-for" in found:
        found["x-forwarded-for"] = found["x-forwarded-for"].replace(", ", ",")
    if found.get("content-length") == "0":
        del found["content-length"]
    if found.get("vary") == "Origin":
        del found["vary"]
    for name in ("access-control-allow-methods", "access-control-allow-headers"):
        if not found.get(name, "?"):
            del found[name]
    if any(name == "x-request-id" for name, _ in fields):
        found["x-request-id"] = "present"
    return found


def _upstream(seen: Seen) -> dict[str, object]:
    return {
        "method": seen.method,
        "target": seen.target,
        "version": seen.version,
        "headers": _comparable(seen.headers),
        "body": seen.body,
    }


def outcome(response: Response) -> Outcome:
    """What came of a request, ready to compare."""
    headers = _comparable(response.headers)
    if "location" in headers:
        headers["location"] = _DEFAULT_PORT.sub(r"\1://\4", headers["location"])
    text = response.header(SEEN_HEADER)
    if not text:
        for name in ("server", "via"):
            headers.pop(name, None)
        if response.body.startswith(_EXPLANATIONS):
            return Outcome(response.status, {}, b"")
        return Outcome(response.status, headers, response.body)
    seen = decode_seen(text)
    return Outcome(response.status, headers, response.body, seen.server, _upstream(seen))
