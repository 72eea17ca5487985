"""The report's colours are told apart by those who see fewer of them, and text is legible on its ground."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest

from meshd.bench.report import palette

Linear = tuple[float, float, float]
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
# Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency
# (2009), severity 1.
SIGHT = {
    "full": _IDENTITY,
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}  # fmt: skip
SETS: dict[str, tuple[Mapping[Any, str], str, float]] = {
    "scenarios, light": (palette.SCENARIO_LIGHT, palette.LIGHT["card"], 0.09),
    "scenarios, dark": (palette.SCENARIO_DARK, palette.DARK["card"], 0.09),
    "parties, light": (palette.PARTY_LIGHT, palette.LIGHT["card"], 0.07),
    "parties, dark": (palette.PARTY_DARK, palette.DARK["card"], 0.07),
}


def linear(colour: str) -> Linear:
    """sRGB's light (IEC 61966-2-1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return red, green, blue


def product(one: Linear, other: Linear) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    low, high = sorted(product((0.2126, 0.7152, 0.0722), linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def oklab(colour: Linear) -> tuple[float, float, float]:
    """Ottosson: A perceptual color space for image processing (2020)."""
    long, medium, short = (
        max(product(row, colour), 0.0) ** (1 / 3)
        for row in (
            (0.4122214708, 0.5363325363, 0.0514459929),
            (0.2119034982, 0.6806995451, 0.1073969566),
            (0.0883024619, 0.2817188376, 0.6299787005),
        )
    )
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def seen(colour: str, sight: tuple[Linear, Linear, Linear]) -> tuple[float, float, float]:
    red, green, blue = (min(max(product(row, linear(colour)), 0.0), 1.0) for row in sight)
    return oklab((red, green, blue))


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("name", SETS)
def test_no_two_colours_look_alike(name: str, sight: str) -> None:
    colours, _, least = SETS[name]
    for one, other in itertools.combinations(colours.values(), 2):
        distance = math.dist(seen(one, SIGHT[sight]), seen(other, SIGHT[sight]))
        assert distance >= least, f"{one} and {other} look alike: {distance:.3f}"


@pytest.mark.parametrize("name", SETS)
def test_bars_and_lines_stand_out_from_their_ground(name: str) -> None:
    """WCAG 2.2, 1.4.11: graphical objects, 3 to 1."""
    colours, ground, _ = SETS[name]
    for colour in colours.values():
        assert contrast(colour, ground) >= 3, f"{colour} on {ground}"


@pytest.mark.parametrize("theme", [palette.LIGHT, palette.DARK])
def test_text_is_legible(theme: Mapping[str, str]) -> None:
    """WCAG 2.2, 1.4.3: text, 4.5 to 1."""
    for text in ("ink", "quiet"):
        for ground in ("card", "page"):
            assert contrast(theme[text], theme[ground]) >= 4.5, f"{text} on {ground}"
