"""The examples of the pages about routes and policies are good objects, and name what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshd.kube.parse import Parsed, parse

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    (page, number, text)
    for page in ("policies.md", "routing.md")
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL))
    if "kind:" in text
]


@pytest.mark.parametrize(("page", "number", "text"), EXAMPLES)
def test_examples_are_good_objects(page: str, number: int, text: str) -> None:
    objects: tuple[Parsed, ...] = parse(text).objects
    assert objects
    for each in objects:
        assert each.object is not None, each.problems
        assert each.problems == ()


def test_both_kinds_have_examples() -> None:
    kinds = {each.key.kind for _, _, text in EXAMPLES for each in parse(text).objects}
    assert {"UpstreamPolicy", "RoutePolicy", "HTTPRoute"} <= kinds
