"""The chart as the real Helm engine renders it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

CHART = Path(__file__).resolve().parents[2] / "charts" / "meshd"
NAMESPACE = "meshd-system"
Object = dict[str, Any]


def texts(values: Object | None = None) -> dict[str, str]:
    """What each template comes to, by its path."""
    with Chart.load(CHART) as chart:
        return chart.render(values or {}, name="mesh", namespace=NAMESPACE)


def objects(values: Object | None = None) -> list[Object]:
    """All manifests."""
    found = (each for name, text in texts(values).items() if name.endswith(".yaml") for each in _read(text))
    return list(found)


def _read(text: str) -> list[Object]:
    return [each for each in yaml.safe_load_all(text) if each]


def one(found: list[Object], kind: str, name: str) -> Object:
    """The object of a kind and name."""
    (wanted,) = [each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return wanted


def arguments(found: list[Object], kind: str, name: str, **variables: str) -> list[str]:
    """Of the first container, with $(NAME) as kubelet puts it in."""
    (container,) = one(found, kind, name)["spec"]["template"]["spec"]["containers"]
    result = []
    for each in container["args"]:
        text = str(each)
        for key, value in variables.items():
            text = text.replace(f"$({key})", value)
        assert "$(" not in text
        result.append(text)
    return result
