"""What an agent and a worker must have in common: names of the code that they run."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple


class Build(NamedTuple):
    """Digests of source files."""

    code: str
    """Of all that a worker may run: one of the same is an agent's own, whoever has started it."""
    wire: str
    """Of the model, in which the messages between the two are: with one of the same it can speak."""


def own_build() -> Build:
    """That of the packages that are installed here. Raises OSError."""
    packages = [_folder("meshd"), _folder("proxy")]
    return Build(_digest(packages), _digest([packages[0] / "model"]))


def _folder(package: str) -> Path:
    # Only found, not imported: the agent knows nothing of what is in the proxy.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {package} is not installed")
    return Path(spec.submodule_search_locations[0])


def _digest(folders: list[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
