"""Routes change while requests run; bad ones are refused and said, and take nothing down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab, until

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: live}}
spec:
  parentRefs: [{{group: "", kind: Service, name: nginx, port: 80}}]
  rules:
    - matches: [{{headers: [{{name: x-to, value: node}}]}}]
      backendRefs: [{{name: node, port: 80}}]
    - matches: [{{path: {{type: PathPrefix, value: /old}}}}]
      filters:
        - type: RequestRedirect
          requestRedirect: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /new}}, statusCode: 301}}
    - matches: [{{path: {{type: PathPrefix, value: /api}}}}]
      filters:
        - type: URLRewrite
          urlRewrite: {{hostname: inside, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /}}}}
        - type: RequestHeaderModifier
          requestHeaderModifier:
            set: [{{name: x-set, value: one}}]
            add: [{{name: x-add, value: two}}]
            remove: [x-gone]
        - type: ResponseHeaderModifier
          responseHeaderModifier: {{set: [{{name: x-answer, value: three}}]}}
      backendRefs: [{{name: threaded, port: 80}}]
    - matches: [{{method: DELETE}}, {{queryParams: [{{name: v, value: "2"}}]}}]
      backendRefs: [{{name: node, port: 80}}]
    - matches: [{{path: {{type: {path_type}, value: "{path}"}}}}]
      backendRefs: [{{name: aiohttp, port: 80, weight: {a}}}, {{name: threaded, port: 80, weight: {b}}}]
"""


def _route(folder: Path, a: int, b: int, path: str = "/", path_type: str = "PathPrefix") -> Path:
    manifest = folder / "live-route.yaml"
    manifest.write_text(ROUTE.format(a=a, b=b, path=path, path_type=path_type))
    return manifest


@pytest.fixture
def routed(lab: Lab, pods: Path) -> Iterator[Lab]:
    lab.run("apply", "-f", str(_route(pods, 50, 50)))
    lab.curl("http://nginx/")  # the routes of what nobody calls are not on the node
    until(lambda: any(route.name.startswith("default/live/") for route in lab.routes()))
    yield lab
    lab.run("delete", "-f", str(pods / "live-route.yaml"))
    until(lambda: lab.get("http://nginx/")["server"] == "nginx")


def _servers(lab: Lab, count: int) -> Counter[str]:
    script = f"for i in $(seq {count}); do curl -sS --max-time 5 http://nginx/; echo; done"
    lines = lab.exec("client", "sh", "-c", script).splitlines()
    return Counter("aiohttp" if '"aiohttp"' in line else "threaded" for line in lines)


def test_every_part_of_a_route_is_kept(routed: Lab) -> None:
    assert routed.get("http://nginx/", "-H", "x-to: node")["server"] == "node"
    assert routed.get("http://nginx/?v=2")["server"] == "node"
    assert routed.get("http://nginx/", "-X", "DELETE")["server"] == "node"
    headers = routed.curl("http://nginx/old/page?q=1", "-o", "/dev/null", "-D", "-")
    assert " 301 " in headers.splitlines()[0]
    assert "location: http://nginx/new/page?q=1" in headers.lower()
    answer = routed.get("http://nginx/api/users?id=3", "-H", "x-gone: yes", "-H", "x-set: zero")
    assert (answer["server"], answer["target"], answer["headers"]["host"]) == (
        "threaded",
        "/users?id=3",
        "inside",
    )
    assert (answer["headers"]["x-set"], answer["headers"]["x-add"]) == ("one", "two")
    assert "x-gone" not in answer["headers"]
    assert "x-answer: three" in routed.curl("http://nginx/api", "-o", "/dev/null", "-D", "-").lower()


def test_weights_split_and_change(routed: Lab, pods: Path) -> None:
    counts = _servers(routed, 60)
    # 60 fair draws: fewer than 12 or more than 48 of one kind happens once in a million runs.
    assert 12 <= counts["aiohttp"] <= 48, counts
    routed.run("apply", "-f", str(_route(pods, 0, 1)))
    until(lambda: _servers(routed, 10) == {"threaded": 10})


def test_a_bad_change_is_refused_and_the_good_one_stays(routed: Lab, pods: Path) -> None:
    routed.run("apply", "-f", str(_route(pods, 0, 1)))
    until(lambda: _servers(routed, 10) == {"threaded": 10})
    routed.run("apply", "-f", str(_route(pods, 1, 0, path="(", path_type="RegularExpression")))

    def reported() -> bool:
        found = [status for status in routed.status().objects if status.name == "live"]
        texts = [p.message for status in found for p in status.problems]
        texts += [c.message for s in found for parent in s.parents for c in parent.conditions if not c.status]
        return any(texts)

    until(reported)
    assert _servers(routed, 10) == {"threaded": 10}
    routed.run("apply", "-f", str(_route(pods, 1, 0)))
    until(lambda: _servers(routed, 10) == {"aiohttp": 10})
    until(lambda: not reported())


def test_routes_without_a_match_answer_404(routed: Lab, pods: Path) -> None:
    routed.run("apply", "-f", str(_route(pods, 1, 0, path="/only", path_type="Exact")))
    until(lambda: routed.code("http://nginx/other") == "404")
    assert routed.code("http://nginx/only") == "200"
