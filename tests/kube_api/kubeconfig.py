"""How the programs reach the tests' API server."""

from __future__ import annotations

from pathlib import Path

import yaml


def kubeconfig(folder: Path, url: str, namespace: str = "meshd-system") -> Path:
    """A file for it, with a namespace as its own."""
    path = folder / "kubeconfig"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path
