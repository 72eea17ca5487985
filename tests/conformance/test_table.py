"""The page about conformance names all that is tested, and not as something that is not."""

from __future__ import annotations

from pathlib import Path

from tests.conformance import cases, l4_cases

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_all_cases_are_in_the_table_of_those_that_pass() -> None:
    passed, _, other = PAGE.read_text().partition("## Not passed")
    tested = [case.name for case in cases.CASES] + [case.name for case in l4_cases.CASES]
    assert [name for name in tested if name not in passed or f"{name}," in other] == []
