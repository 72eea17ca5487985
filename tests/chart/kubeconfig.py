"""How the programs reach the tests' API server."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.chart.rendering import NAMESPACE


def kubeconfig(folder: Path, url: str) -> Path:
    """A file for it, in the release's namespace."""
    path = folder / "kubeconfig"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path
