"""The BPF C sources: where they are, and the one text that bcc is given."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "bpf"
UNIT = "meshd.c"
SHIM = FOLDER / "shim"
FLAGS = ("-O2", "-Wall", "-Wno-unused-function")

_INCLUDE = re.compile(r'^#include "([\w/]+\.h)"\s*$')


class SourceMissingError(Exception):
    """A C file is not where the package puts it."""


def unit(folder: Path = FOLDER, name: str = UNIT) -> str:
    """A unit with its own headers put in place, each once; raises SourceMissingError.

    bcc rewrites map accesses only in the file that it is given (in 0.26), not in what that includes.
    """
    lines: list[str] = []
    _expand(folder, name, set(), lines)
    return "\n".join(lines) + "\n"


def _expand(folder: Path, name: str, seen: set[str], lines: list[str]) -> None:
    if name in seen:
        return
    seen.add(name)
    try:
        text = (folder / name).read_text(encoding="ascii")
    except OSError as error:
        raise SourceMissingError(f"{folder / name}: {error.strerror}; is the package whole?") from error
    lines.append(f'#line 1 "{name}"')
    for number, line in enumerate(text.splitlines(), 1):
        include = _INCLUDE.match(line)
        if include:
            _expand(folder, include[1], seen, lines)
            lines.append(f'#line {number + 1} "{name}"')
        else:
            lines.append(line)


def digest(text: str) -> str:
    """Names a version of the programs: 12 hexadecimal digits over the sources and how they are compiled."""
    return hashlib.sha256("\0".join((text, *FLAGS)).encode()).hexdigest()[:12]
