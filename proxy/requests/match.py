"""A route's conditions besides its path, compiled into predicates."""

from __future__ import annotations

from collections.abc import Callable

from meshd.model.grpc import is_grpc
from meshd.model.regex import Regex
from meshd.model.request_policies import StringMatch
from meshd.model.routes import RouteMatch
from proxy.requests.request_head import RequestHead

Predicate = Callable[[RequestHead], bool]


def _value_test(match: StringMatch) -> Callable[[str], bool]:
    return Regex(match.value).fullmatch if match.regex else match.value.__eq__


def _header(match: StringMatch) -> Predicate:
    """Of several fields of one name one must match; they are not joined. So it is in Envoy since 1.39.

    The Gateway API leaves it to the implementation (HTTPHeaderMatch.name).
    """
    name, test = match.name, _value_test(match)
    if name == "host":
        return lambda request: test(request.host)

    def holds(request: RequestHead) -> bool:
        values = request.headers.getall(name, ())
        return any(test(value) for value in values) if values else False

    return holds


def first_query_value(query: str | None, name: str) -> str | None:
    """The first value of a parameter, as it stands: nothing is percent-decoded, as in Envoy's route matching.

    A parameter without "=" has an empty value.
    """
    if not query:
        return None
    for parameter in query.split("&"):
        key, _, value = parameter.partition("=")
        if key == name:
            return value
    return None


def _query(match: StringMatch) -> Predicate:
    name, test = match.name, _value_test(match)

    def holds(request: RequestHead) -> bool:
        value = first_query_value(request.query, name)
        return value is not None and test(value)

    return holds


def _method(method: str) -> Predicate:
    return lambda request: request.method == method


def _is_grpc(request: RequestHead) -> bool:
    return is_grpc(request.headers.get("content-type", ""))


def predicate(match: RouteMatch) -> Predicate | None:
    """Whether a request meets all of ``match`` but its path; None when there is nothing else to meet.

    Raises meshd.model.regex.RegexError.
    """
    tests: list[Predicate] = []
    if match.method:
        tests.append(_method(match.method))
    if match.grpc:
        tests.append(_is_grpc)
    tests.extend(_header(header) for header in match.headers)
    tests.extend(_query(parameter) for parameter in match.query)
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]

    first, rest = tests[0], tuple(tests[1:])

    def all_hold(request: RequestHead) -> bool:
        return first(request) and all(test(request) for test in rest)

    return all_hold
