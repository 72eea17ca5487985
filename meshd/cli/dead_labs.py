"""Labs whose supervisor is gone, known by what they left behind."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import cgroup as cgroups
from meshd.lab.command.sweep import sweep
from meshd.lab.names import LABS_DIR, NETNS_DIR, Lab
from meshd.lab.system import cgroup

_OF_LAB = re.compile(r"meshd-([a-z0-9]{1,12})(?:-.*)?")


def labs() -> list[Lab]:
    """All labs of which there is a folder, a network namespace or a cgroup."""
    names = {path.name for path in _children(LABS_DIR) if re.fullmatch(r"[a-z0-9]{1,12}", path.name)}
    for path in (*_children(NETNS_DIR), *_cgroups()):
        if found := _OF_LAB.fullmatch(path.name):
            names.add(found[1])
    return [Lab(name) for name in sorted(names)]


def runs(lab: Lab) -> bool:
    """Whether its supervisor is there, be it about to start or to end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        if connection.connect_ex(str(lab.socket)) == 0:
            return True
    try:
        return cgroup.populated(cgroups.root() / lab.cgroup / "supervisor")
    except (DatapathError, OSError):
        return False


def remove(lab: Lab) -> Iterator[str]:
    """Remove all that it left, saying what. Raises OSError."""
    for what in sweep(lab):
        yield f"lab {lab.name}: removed {what}"


def _cgroups() -> list[Path]:
    try:
        return [path for path in _children(cgroups.root()) if path.is_dir()]
    except DatapathError:
        return []


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
