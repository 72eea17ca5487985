"""What a route's filters do: the same from meshd as from a real Envoy, but for what is said here.

Unlike Envoy we name no permission to an origin that has none (the Gateway API's HTTPCORSFilter.allowOrigins).
"""

from __future__ import annotations

import pytest

from meshd.model.request_policies import MILLION, Cors, Fault, RateLimit, StringMatch, TokenBucket
from meshd.model.routes import DirectResponse, HeaderEdit, PathExact, Redirect, Route, RouteMatch
from tests.differential.cases import A, routes, to
from tests.differential.requests import Outcome, Request
from tests.differential.world import World

FOO, BAR, OTHER = "https://www.foo.com", "https://x.bar.com", "https://foobar.com"
_ORIGINS = (
    StringMatch(name="origin", value=FOO),
    StringMatch(name="origin", value=r"https://.*\.bar\.com", regex=True),
)
_CORS = {
    "all": Cors(
        origins=_ORIGINS,
        methods=("GET", "PUT"),
        headers=("x-1", "x-2"),
        expose=("x-3", "x-4"),
        max_age=7,
        credentials=True,
    ),
    "few": Cors(origins=_ORIGINS),
    "any": Cors(origins=(StringMatch(name="origin", value="*"),), methods=("*",), headers=("*",)),
    "forwards": Cors(origins=_ORIGINS, methods=("GET",), forward_unmatched=True),
}
_ABORT = Fault(abort=418, abort_share=MILLION)
_BY_HEADER = Fault(by_header=True, delay_share=MILLION, abort_share=MILLION)
_TESTER = StringMatch(name="x-user", value="tester")
_ONCE = RateLimit(all=TokenBucket(tokens=1, interval=3600.0, burst=1))
_OTHERWISE = HeaderEdit(set=(("x-added", "1"),))


def _on(name: str, **fields: object) -> Route:
    action = fields.pop("action", to(A))
    return Route(
        name=name,
        match=RouteMatch(path=PathExact(f"/{name}")),
        action=action,  # type: ignore[arg-type]
        response_headers=_OTHERWISE,
        **fields,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def port(both: World) -> int:
    """A listener with a path for each kind of filter."""
    direct = DirectResponse(status=200, body="hi")
    given = [
        *(_on(name, cors=cors) for name, cors in _CORS.items()),
        _on("cors-direct", cors=_CORS["all"], action=direct),
        _on("cors-redirect", cors=_CORS["all"], action=Redirect(host="other")),
        _on("abort", fault=_ABORT, cors=_CORS["all"]),
        _on("abort-direct", fault=_ABORT, action=direct),
        _on("abort-redirect", fault=_ABORT, action=Redirect(host="other")),
        _on("abort-tester", fault=Fault(abort=503, abort_share=MILLION, headers=(_TESTER,))),
        _on("never", fault=Fault(abort=503, delay=60.0)),
        _on("asked", fault=_BY_HEADER),
        _on("delay", fault=Fault(delay=0.3, delay_share=MILLION), action=_impatient()),
        _on("delay-abort", fault=Fault(delay=0.1, delay_share=MILLION, abort=418, abort_share=MILLION)),
        _on("once", rate_limit=_ONCE, cors=_CORS["all"]),
        _on("once-direct", rate_limit=_ONCE, action=direct),
        _on("direct", action=direct),
    ]
    return both.serve([routes(*given)])[0]


def _impatient() -> object:
    """A route whose time is shorter than its delay."""
    forward = to(A)
    return type(forward)(clusters=forward.clusters, timeout=0.2)


def _preflight(path: str, origin: str, method: str = "PUT", headers: str = "") -> Request:
    fields = [("Origin", origin), ("Access-Control-Request-Method", method)]
    if headers:
        fields.append(("Access-Control-Request-Headers", headers))
    return Request(path, "OPTIONS", headers=tuple(fields))


def _alike(both: World, port: int, request: Request) -> Outcome:
    """Both proxies' answer, which is the same."""
    outcomes = both.ask(port, request)
    assert outcomes["meshd"] == outcomes["Envoy"]
    return outcomes["meshd"]


@pytest.mark.parametrize("path", [f"/{name}" for name in _CORS])
@pytest.mark.parametrize("origin", [FOO, BAR])
@pytest.mark.parametrize("headers", ["", "x-1, x-9"])
def test_preflights(both: World, port: int, path: str, origin: str, headers: str) -> None:
    answer = _alike(both, port, _preflight(path, origin, headers=headers))
    assert (answer.status, answer.server) == (200, "")
    assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("path", ["/all", "/few"])
def test_another_origins_preflight_is_answered_without_permission(both: World, port: int, path: str) -> None:
    outcomes = both.ask(port, _preflight(path, OTHER))
    for answer in outcomes.values():
        assert (answer.status, answer.server) == (200, "")
        assert "access-control-allow-origin" not in answer.headers
    assert outcomes["meshd"].headers == {}


def test_or_is_the_servers(both: World, port: int) -> None:
    assert _alike(both, port, _preflight("/forwards", OTHER)).server == A


@pytest.mark.parametrize("path", [f"/{name}" for name in _CORS])
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "PUT"])
@pytest.mark.parametrize("origin", [FOO, BAR, OTHER, "null", ""])
def test_answers_are_marked(both: World, port: int, path: str, method: str, origin: str) -> None:
    fields = (("Origin", origin),) if origin else ()
    answer = _alike(both, port, Request(path, method, headers=fields))
    assert answer.server == A
    assert ("access-control-allow-origin" in answer.headers) is (
        origin in (FOO, BAR) or (path == "/any" and origin != "")
    )


@pytest.mark.parametrize("path", ["/cors-direct", "/cors-redirect"])
def test_answers_of_the_routes_own_are_not(both: World, port: int, path: str) -> None:
    for request in (_preflight(path, FOO), Request(path, headers=(("Origin", FOO),))):
        assert "access-control-allow-origin" not in _alike(both, port, request).headers


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request("/abort"), 418),
        (Request("/abort", headers=(("Origin", FOO),)), 418),
        (_preflight("/abort", FOO), 200),
        (Request("/abort", "POST", body=b"x" * 100), 418),
        (Request("/abort-direct"), 418),
        (Request("/abort-redirect"), 418),
        (Request("/abort-tester"), 200),
        (Request("/abort-tester", headers=(("x-user", "tester"),)), 503),
        (Request("/never"), 200),
        (Request("/asked"), 200),
        (Request("/asked", headers=(("x-envoy-fault-abort-request", "418"),)), 418),
        (Request("/asked", headers=(("x-envoy-fault-abort-request", "600"),)), 200),
        (Request("/asked", headers=(("x-envoy-fault-abort-request", "no"),)), 200),
        (
            Request(
                "/asked",
                headers=(
                    ("x-envoy-fault-abort-request", "418"),
                    ("x-envoy-fault-abort-request-percentage", "0"),
                ),
            ),
            200,
        ),
        (Request("/asked", headers=(("x-envoy-fault-delay-request", "50"),)), 200),
        (Request("/delay"), 200),
        (Request("/delay", "POST", body=b"x" * 10_000), 200),
        (Request("/delay-abort"), 418),
    ],
)
def test_faults(both: World, port: int, request_: Request, status: int) -> None:
    assert _alike(both, port, request_).status == status


@pytest.mark.parametrize("path", ["/once", "/once-direct"])
def test_rate_limits(both: World, port: int, path: str) -> None:
    assert [_alike(both, port, Request(path)).status for _ in range(3)] == [200, 429, 429]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_direct_responses(both: World, port: int, method: str) -> None:
    answer = _alike(both, port, Request("/direct", method, body=b"x" if method == "POST" else b""))
    assert answer.headers == {"x-added": "1", "content-type": "text/plain", "content-length": "2"}
