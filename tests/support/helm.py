"""The chart, rendered by the Helm engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "meshd"
Object = dict[str, Any]


def render(values: Object | None = None, namespace: str = "meshd-system") -> dict[tuple[str, str], Object]:
    """The objects by kind and name. Raises helm_python.HelmError."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values or {}, name="meshd", namespace=namespace, is_install=True)
    objects = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}
