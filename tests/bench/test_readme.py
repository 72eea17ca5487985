"""What `make bench-readme` writes into the README."""

from __future__ import annotations

import pytest

from bench import readme
from tests.support import bench_sample


def test_every_cell_is_measured_by_the_standard_loads() -> None:
    text = readme.placed((readme.ROOT / "README.md").read_text(), bench_sample.full())
    begin, end = text.index(readme.BEGIN), text.index(readme.END)
    cells = [cell.strip() for line in text[begin:end].splitlines() for cell in line.split("|")[2:-1]]
    assert len(cells) == 8 * 8 + 6 * 8
    assert "–" not in cells
    assert "2026-11-27, 2 CPUs, kernel 6.18, Envoy 1.40" in " ".join(text[begin:end].split())


def test_it_replaces_what_it_wrote() -> None:
    once = readme.placed(f"before\n{readme.BEGIN} old {readme.END}\nafter\n", bench_sample.full())
    assert readme.placed(once, bench_sample.full()) == once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")


def test_a_readme_without_its_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="once each"):
        readme.placed("no marks", bench_sample.full())
