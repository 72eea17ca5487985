"""Whose cross-origin requests are allowed, and what preflights and answers are told."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from meshd.model.request_policies import Cors, StringMatch
from proxy.filters.cors import CorsPolicy, CorsVerdict
from proxy.requests.request_head import RequestHead

FOO = "https://www.foo.com"
BAR = r"https://.*\.bar\.com"


def origin(value: str, regex: bool = False) -> StringMatch:
    return StringMatch(name="origin", value=value, regex=regex)


ALL = Cors(
    origins=(origin(FOO), origin(BAR, regex=True)),
    methods=("GET", "OPTIONS"),
    headers=("x-header-1", "x-header-2"),
    expose=("x-header-3", "x-header-4"),
    max_age=3600,
    credentials=True,
)
ANYBODY = Cors(origins=(origin("*"),), methods=("*",), headers=("*",))


def check(cors: Cors, method: str = "OPTIONS", **fields: str) -> CorsVerdict:
    headers = CIMultiDict({name.replace("_", "-"): value for name, value in fields.items()})
    return CorsPolicy(cors).check(RequestHead(method, "/", None, "web", headers))


def preflight(cors: Cors, origin: str = FOO, method: str = "GET", headers: str = "") -> dict[str, str] | None:
    """The answer to a preflight; None: it goes on."""
    asked = {"access_control_request_headers": headers} if headers else {}
    verdict = check(cors, origin=origin, access_control_request_method=method, **asked)
    if verdict.preflight is None:
        return None
    return dict(verdict.marks.of_answer(verdict.preflight))


def marks(cors: Cors, **fields: str) -> dict[str, str]:
    verdict = check(cors, "GET", **fields)
    assert verdict.preflight is None
    return dict(verdict.marks.of_answer((("access-control-allow-origin", "the server's"),)))


@pytest.mark.parametrize("allowed", [FOO, "https://www.bar.com", "https://xpto.www.bar.com"])
def test_a_preflight_is_told_all_that_is_allowed(allowed: str) -> None:
    assert preflight(ALL, allowed, headers="x-header-1, x-header-2") == {
        "access-control-allow-origin": allowed,
        "access-control-allow-methods": "GET, OPTIONS",
        "access-control-allow-headers": "x-header-1, x-header-2",
        "access-control-expose-headers": "x-header-3, x-header-4",
        "access-control-max-age": "3600",
        "access-control-allow-credentials": "true",
        "vary": "Origin",
    }


@pytest.mark.parametrize(
    "other",
    ["https://foobar.com", "https://bar.com", "http://www.foo.com", FOO + ":443", FOO.upper(), "null"],
)
def test_another_origin_is_told_nothing(other: str) -> None:
    assert preflight(ALL, other) == {"vary": "Origin"}
    assert marks(ALL, origin=other) == {"access-control-allow-origin": "the server's", "vary": "Origin"}


def test_another_origins_preflight_may_go_to_the_server() -> None:
    cors = Cors(origins=(origin(FOO),), methods=("GET",), forward_unmatched=True)
    assert preflight(cors, "https://foobar.com") is None
    assert preflight(cors, FOO) is not None


def test_a_star_stands_for_what_is_asked_for() -> None:
    assert preflight(ANYBODY, "https://any.one", "PATCH", "x-a, x-b") == {
        "access-control-allow-origin": "https://any.one",
        "access-control-allow-methods": "PATCH",
        "access-control-allow-headers": "x-a, x-b",
        "access-control-max-age": "5",
        "vary": "Origin",
    }
    assert "access-control-allow-headers" not in (preflight(ANYBODY, "https://any.one") or {})


def test_a_maximal_age_may_be_left_unsaid() -> None:
    assert preflight(Cors(origins=(origin("*"),), max_age=-1)) == {
        "access-control-allow-origin": FOO,
        "vary": "Origin",
    }


@pytest.mark.parametrize(("credentials", "exposed"), [(False, "*, x-a"), (True, "x-a")])
def test_with_credentials_a_star_is_no_wildcard(credentials: bool, exposed: str) -> None:
    cors = Cors(origins=(origin("*"),), expose=("*", "x-a"), credentials=credentials)
    assert marks(cors, origin=FOO)["access-control-expose-headers"] == exposed


def test_an_answer_is_marked_over_what_the_server_said() -> None:
    assert marks(ALL, origin=FOO) == {
        "access-control-allow-origin": FOO,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-header-3, x-header-4",
        "vary": "Origin",
    }


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("OPTIONS", {"origin": FOO}),
        ("OPTIONS", {"origin": FOO, "access_control_request_method": ""}),
        ("GET", {"origin": FOO, "access_control_request_method": "GET"}),
        ("OPTIONS", {"access_control_request_method": "GET"}),
        ("OPTIONS", {"origin": "", "access_control_request_method": "GET"}),
    ],
)
def test_what_is_no_preflight_goes_on(method: str, fields: dict[str, str]) -> None:
    verdict = check(ALL, method, **fields)
    assert verdict.preflight is None
    assert verdict.allowed is (True if fields.get("origin") else None)


def test_two_origins_are_none_that_is_allowed() -> None:
    headers = CIMultiDict((("origin", FOO), ("Origin", FOO)))
    assert CorsPolicy(ALL).check(RequestHead("GET", "/", None, "web", headers)).allowed is False
