"""The page and the picture as headless Chromium shows them: both colour schemes, desk and phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from meshd.bench.report import render
from tests.support.bench_reports import REPORTS
from tests.support.chromium import Scheme, Tab, chromium

PHONE, DESK = 390, 1120
OPEN_ALL = "document.querySelectorAll('details').forEach(d => { d.open = true })"
OVERLAPS = """(() => {
  const boxes = [];
  const walk = document.createTreeWalker(document.body || document.documentElement, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode());) {
    if (!node.data.trim() || node.parentElement.closest('title, desc, style')) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const scroller = node.parentElement.closest('.scroll');
    for (const r of range.getClientRects())
      if (r.width && r.height) boxes.push({node, r, text: node.data, scroller});
  }
  const found = [];
  for (let i = 0; i < boxes.length; i++)
    for (let j = i + 1; j < boxes.length; j++) {
      const [a, b] = [boxes[i], boxes[j]];
      if (a.node === b.node || a.scroller !== b.scroller) continue;
      const x = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left);
      const y = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
      // A line box is higher than its letters: two pixels are air.
      if (x > 0.5 && y > 2) found.push(`${a.text} / ${b.text}`);
    }
  return {texts: boxes.length, found: found.slice(0, 10)};
})()"""
"""Texts that lie on one another. What a scrolling box hides is compared within that box."""
OUTSIDE = """[...document.querySelectorAll('svg.chart')].flatMap(chart => {
  const frame = chart.getBoundingClientRect();
  return [...chart.querySelectorAll('text')].filter(t => {
    const r = t.getBoundingClientRect();
    return r.left < frame.left - 4 || r.right > frame.right + 4
      || r.top < frame.top - 4 || r.bottom > frame.bottom + 4;
  }).map(t => t.textContent);
})"""
CONTRAST = """(() => {
  const light = text => {
    const part = text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    const paper = document.querySelector('.paper');
    return paper ? getComputedStyle(paper).fill : 'rgb(255, 255, 255)';
  };
  let least = 99;
  const walk = document.createTreeWalker(document.body || document.documentElement, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode());) {
    const of = node.parentElement;
    if (!node.data.trim() || of.closest('title, desc, style')) continue;
    const style = getComputedStyle(of);
    const [a, b] = [light(of.namespaceURI.endsWith('svg') ? style.fill : style.color), light(ground(of))];
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return least;
})()"""
SMALLEST = """Math.min(...[...document.querySelectorAll('svg.chart')].map(
  chart => 13 * chart.getBoundingClientRect().width / chart.viewBox.baseVal.width))"""
NAMELESS = """[...document.querySelectorAll('svg[role=img]')].filter(
  chart => !chart.querySelector('title')?.textContent || !chart.querySelector('desc')?.textContent).length"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with chromium() as found:
        yield found


def shown(tab: Tab, folder: Path, name: str, form: str, scheme: Scheme, width: int) -> None:
    page = folder / f"report.{form}"
    page.write_text(render(REPORTS[name](), "svg" if form == "svg" else "html"))
    tab.logged.clear()
    tab.requested.clear()
    tab.show(page, scheme, width)
    tab.evaluate(OPEN_ALL)
    assert tab.logged == []
    assert {url for url in tab.requested if not url.startswith("data:")} == {page.as_uri()}, (
        "nothing is fetched"
    )


@pytest.mark.parametrize("scheme", get_args(Scheme))
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", REPORTS)
def test_the_page_is_legible(tab: Tab, tmp_path: Path, name: str, scheme: Scheme, width: int) -> None:
    shown(tab, tmp_path, name, "html", scheme, width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    overlaps = tab.evaluate(OVERLAPS)
    assert overlaps["texts"] > 20
    assert overlaps["found"] == []
    assert tab.evaluate(OUTSIDE) == []
    assert tab.evaluate(CONTRAST) >= 4.5
    assert tab.evaluate(NAMELESS) == 0
    if tab.evaluate("document.querySelector('svg.chart') !== null"):
        assert tab.evaluate(SMALLEST) >= 10, "text in a chart, in CSS pixels"


@pytest.mark.parametrize("scheme", get_args(Scheme))
@pytest.mark.parametrize("name", ["full", "quick", "nothing", "huge ranges", "errors"])
def test_the_picture_is_legible(tab: Tab, tmp_path: Path, name: str, scheme: Scheme) -> None:
    shown(tab, tmp_path, name, "svg", scheme, DESK)
    overlaps = tab.evaluate(OVERLAPS)
    assert overlaps["texts"] >= 3
    assert overlaps["found"] == []
    assert tab.evaluate(OUTSIDE) == []
    assert tab.evaluate(CONTRAST) >= 4.5


def test_light_and_dark_differ(tab: Tab, tmp_path: Path) -> None:
    grounds = []
    for scheme in get_args(Scheme):
        shown(tab, tmp_path, "quick", "html", scheme, DESK)
        grounds.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(245, 246, 248)", "rgb(13, 17, 23)"]
