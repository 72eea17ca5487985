"""The page about conformance names all that is tested, and not as something that is not."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.cases import CASES

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_all_cases_are_in_the_table_of_those_that_pass() -> None:
    passed, _, other = PAGE.read_text().partition("## Not passed")
    assert [case.name for case in CASES if case.name not in passed or f"{case.name}," in other] == []
