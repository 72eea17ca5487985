"""Manifests to objects, and what a user is told about bad ones."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from meshd.kube.httproute import HTTPRoute
from meshd.kube.objects import Key, Service
from meshd.kube.parse import MAX_DEPTH, parse
from meshd.model.status import Severity

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, creationTimestamp: null}
spec:
  clusterIP: 10.96.0.1
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: web}]
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules:
  - matches: [{path: {value: /a}}]
    backendRefs: [{name: web, port: 80}]
"""


def one_problem(text: str) -> tuple[str, str]:
    """Field and message of the only problem of the only object."""
    (parsed,) = parse(text).objects
    (problem,) = parsed.problems
    assert (parsed.object is None) == (problem.severity is Severity.ERROR)
    return problem.field, problem.message


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def in_rule(field: str) -> str:
    """The route whose rule has this field too."""
    return edited(ROUTE, "  - matches", f"  - {field}\n    matches")


def test_good_objects() -> None:
    parsed = parse(SERVICE + "---" + ROUTE + "---\n---\n# nothing")
    service, route = parsed.objects
    assert not parsed.problems
    assert service.key == Key("Service", "shop", "web")
    assert isinstance(service.object, Service)
    assert service.object.spec.ports[0].port == 80
    assert route.key == Key("HTTPRoute", "default", "r")
    assert isinstance(route.object, HTTPRoute)
    assert route.object.metadata.namespace == "default"


def test_lists_and_json() -> None:
    items = [yaml.safe_load(SERVICE), yaml.safe_load(ROUTE)]
    parsed = parse(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    assert [p.key.kind for p in parsed.objects] == ["Service", "HTTPRoute"]
    bare = {k: v for k, v in items[0].items() if k not in ("kind", "apiVersion")}
    parsed = parse(yaml.safe_dump({"apiVersion": "v1", "kind": "ServiceList", "items": [bare]}))
    assert [p.key for p in parsed.objects] == [Key("Service", "shop", "web")]
    assert parse('{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}').objects[0].object


def test_kinds_that_are_not_acted_on_are_ignored() -> None:
    text = edited(edited(SERVICE, "kind: Service", "kind: Deployment"), "v1", "apps/v1")
    assert parse(text).ignored == (Key("Deployment", "shop", "web"),)
    knative = edited(SERVICE, "apiVersion: v1", "apiVersion: serving.knative.dev/v1")
    assert parse(knative).ignored == (Key("Service", "shop", "web"),)


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (edited(SERVICE, "port: 80", "port: 80000"), "spec.ports[0].port", "expected int <= 65535"),
        (edited(SERVICE, "port: 80", "port: '80'"), "spec.ports[0].port", "expected int, got str"),
        (edited(SERVICE, "10.96.0.1", "10.96.0.300"), "spec.clusterIP", "'10.96.0.300' is no IP address"),
        (edited(SERVICE, "name: http,", "nme: http,"), "spec.ports[0].nme", "no such field; it does nothing"),
        (edited(ROUTE, "/a", "a"), "spec.rules[0].matches[0].path.value", "'a' must begin with a slash"),
        (
            edited(ROUTE, "value: /a", "value: /a//b"),
            "spec.rules[0].matches[0].path.value",
            "'/a//b' must not contain //",
        ),
        (
            edited(ROUTE, "value: /a", 'type: RegularExpression, value: "("'),
            "spec.rules[0].matches[0].path.value",
            "regular expression '(': missing ): ( (RE2 syntax)",
        ),
        (edited(ROUTE, ", port: 80", ""), "spec.rules[0].backendRefs[0].port", "must be set for a Service"),
        (
            edited(ROUTE, "port: 80", "port: 80, weight: -1"),
            "spec.rules[0].backendRefs[0].weight",
            "expected int >= 0",
        ),
        (
            in_rule("retry: {codes: [500, 502, 500]}"),
            "spec.rules[0].retry.codes",
            "names a code twice",
        ),
        (
            in_rule("retry: {codes: [200]}"),
            "spec.rules[0].retry.codes[0]",
            "expected int >= 400",
        ),
        (in_rule("retry: {attempts: 0}"), "spec.rules[0].retry.attempts", "expected int >= 1"),
        (
            in_rule("sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}"),
            "spec.rules[0].sessionPersistence.absoluteTimeout",
            "must be set for lifetimeType Permanent",
        ),
        (
            in_rule("sessionPersistence: {type: Header, cookieConfig: {}}"),
            "spec.rules[0].sessionPersistence.cookieConfig",
            "must not be set with type Header",
        ),
        (
            in_rule("sessionPersistence: {idleTimeout: 5m}"),
            "spec.rules[0].sessionPersistence.idleTimeout",
            "no such field; it does nothing",
        ),
        (
            edited(ROUTE, "gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"),
            "apiVersion",
            "gateway.networking.k8s.io/v1alpha2 is not supported; use gateway.networking.k8s.io/v1 or "
            "gateway.networking.k8s.io/v1beta1",
        ),
    ],
)
def test_one_wrong_thing(text: str, field: str, message: str) -> None:
    assert one_problem(text) == (field, message)


FILTERS = {
    "both": (
        "[{type: RequestRedirect, requestRedirect: {port: 1}},"
        " {type: URLRewrite, urlRewrite: {hostname: a}}]",
        "RequestRedirect and URLRewrite cannot be combined",
    ),
    "repeated": (
        "[{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: b}}]",
        "URLRewrite cannot be repeated",
    ),
    "field of another type": (
        "[{type: CORS, cors: {}, urlRewrite: {}}]", "must not be set in a filter of type CORS",
    ),
    "field missing": ("[{type: URLRewrite}]", "must be set"),
    "redirect and backends": (
        "[{type: RequestRedirect, requestRedirect: {port: 1}}]",
        "must be empty in a rule with a RequestRedirect filter",
    ),
    "path modifier": (
        "[{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: a}}}]",
        "'a' is no path that begins with a slash",
    ),
    "mirror to no port": (
        "[{type: RequestMirror, requestMirror: {backendRef: {name: web}}}]", "must be set for a Service",
    ),
    "mirror by two shares": (
        "[{type: RequestMirror, requestMirror:"
        " {backendRef: {name: web, port: 80}, percent: 1, fraction: {numerator: 1}}}]",
        "must not be set beside percent",
    ),
    "mirror of more than all": (
        "[{type: RequestMirror, requestMirror:"
        " {backendRef: {name: web, port: 80}, fraction: {numerator: 3, denominator: 2}}}]",
        "must not be more than denominator",
    ),
    "origin that is none": (
        "[{type: CORS, cors: {allowOrigins: [example.org]}}]", "expected str matching regex",
    ),
    "origins beside all": (
        '[{type: CORS, cors: {allowOrigins: ["*", "https://a.org"]}}]', "must not name others beside *",
    ),
    "methods twice": ("[{type: CORS, cors: {allowMethods: [GET, GET]}}]", "names one twice"),
    "CORS twice": ("[{type: CORS, cors: {}}, {type: CORS, cors: {}}]", "CORS cannot be repeated"),
    "header injection": (
        '[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: "b\\r\\nc: d"}]}}]',
        "expected str matching regex",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("filters", "message"), FILTERS.values(), ids=FILTERS)
def test_filters(filters: str, message: str) -> None:
    (parsed,) = parse(edited(ROUTE, "backendRefs:", f"filters: {filters}\n    backendRefs:")).objects
    assert parsed.object is None
    assert any(message in problem.message for problem in parsed.problems)


def test_prefix_replacement_needs_exactly_one_prefix() -> None:
    path = "{type: ReplacePrefixMatch, replacePrefixMatch: /x}"
    replace = f"filters: [{{type: URLRewrite, urlRewrite: {{path: {path}}}}}]"
    good = edited(ROUTE, "backendRefs:", f"{replace}\n    backendRefs:")
    assert parse(good).objects[0].object is not None
    exact = edited(good, "value: /a", "type: Exact, value: /a")
    assert "exactly one match" in one_problem(exact)[1]
    assert "exactly one match" in one_problem(edited(good, "/a}}]\n", "/a}}, {path: {value: /b}}]\n"))[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", "not valid YAML: mapping values are not allowed in this context (line 1, column 5)"),
        ("a: 1\na: 2", "not valid YAML: a is given twice (line 2, column 1)"),
        ("a: &x [*x]", "nested deeper"),
        ("[" * 200_000, "nested deeper"),
        ("- " * 100_000, "nested deeper"),
        ("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "nested deeper"),
        ("just text", "is no object"),
        ("kind: Service", "must be set, to a string that is not empty"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: 1}", "must be set, to a string that is not empty"),
        ("\x00", "not valid YAML"),
        ("? [a]\n: b", "found unhashable key"),
    ],
)
def test_files_that_are_no_manifests(text: str, message: str) -> None:
    parsed = parse(text)
    assert not parsed.objects
    assert message in parsed.problems[0].message


def test_a_try_may_not_have_more_time_than_the_request() -> None:
    def timed(request: str, backend_request: str) -> str:
        timeouts = f"timeouts: {{request: {request}, backendRequest: {backend_request}}}"
        return in_rule(timeouts)

    assert one_problem(timed("1s", "1500ms")) == (
        "spec.rules[0].timeouts.backendRequest",
        "1500ms is more than request, 1s",
    )
    for good in (timed("1s", "1000ms"), timed("0s", "2s"), timed("1s", "0s")):
        (parsed,) = parse(good).objects
        assert parsed.object is not None
        assert parsed.problems == ()


def test_aliases_do_not_explode() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "larger than" in parse("\n".join(lines)).problems[0].message


def test_kinds_that_are_meant_for_us_and_not_supported_are_not_silent() -> None:
    grpc = edited(ROUTE, "HTTPRoute", "GRPCRoute")
    assert one_problem(grpc) == ("kind", "GRPCRoute is not supported for Services yet; it has no effect")
    assert parse(edited(grpc, 'group: "", kind: Service, ', "")).objects == ()
    own = edited(edited(SERVICE, "kind: Service", "kind: Retries"), "v1", "meshd.io/v1alpha1")
    assert one_problem(own) == ("kind", "there is no Retries in meshd.io/v1alpha1; it has no effect")


def test_bad_document_leaves_the_others_alone() -> None:
    parsed = parse("just text\n---" + SERVICE)
    assert [p.key.name for p in parsed.objects] == ["web"]
    assert parsed.problems[0].field == "document 1"


JSONISH = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
PATHS = [
    ("metadata",),
    ("metadata", "name"),
    ("metadata", "labels"),
    ("spec",),
    ("spec", "rules"),
    ("spec", "parentRefs"),
    ("spec", "hostnames"),
    ("spec", "ports"),
    ("spec", "clusterIP"),
    ("items",),
    ("kind",),
]


@given(st.text(max_size=200))
@example("!!python/object:os.system {}")
@example("- !!binary x")
@example("2001-99-99")
@example("!!int x")
@example("{? {} : x}")
def test_text_never_raises(text: str) -> None:
    parse(text)


@given(st.sampled_from([SERVICE, ROUTE]), st.sampled_from(PATHS), JSONISH)
def test_mangled_objects_never_raise(text: str, path: tuple[str, ...], value: object) -> None:
    raw = yaml.safe_load(text)
    inner = raw
    for step in path[:-1]:
        inner = inner.setdefault(step, {})
    inner[path[-1]] = value
    parsed = parse(yaml.safe_dump(raw))
    for item in parsed.objects:
        assert item.object is not None or any(p.severity is Severity.ERROR for p in item.problems)
