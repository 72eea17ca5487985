"""The import rule: pure modules know only the model, one module knows bcc, proxy and agent are strangers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("meshd", "proxy")

PURE = (
    "meshd.bench.answer",
    "meshd.bench.arrivals",
    "meshd.bench.distribution",
    "meshd.bench.kube.dry_run",
    "meshd.bench.kube.objects",
    "meshd.bench.kube.options",
    "meshd.bench.kube.pods",
    "meshd.bench.kube.task",
    "meshd.bench.plan",
    "meshd.bench.report",
    "meshd.bench.results",
    "meshd.bench.samples",
    "meshd.bench.wrk",
    "meshd.kube",
    "meshd.gateway",
    "meshd.xds",
    "meshd.datapath.rules.fingerprint",
    "meshd.datapath.services.plan",
    "meshd.datapath.rules.decision",
    "meshd.datapath.rules.paths",
    "meshd.datapath.rules.values",
    "meshd.datapath.rules.compilation",
    "meshd.agent.health.cluster_health",
    "meshd.agent.health.marks",
    "meshd.agent.health.outlier",
    "meshd.agent.health.probe_state",
    "meshd.agent.health.reach",
    "meshd.agent.kernel_totals",
    "meshd.agent.totals",
    "meshd.agent.views",
    "meshd.workloads.containers",
    "meshd.workloads.membership",
    "meshd.workloads.runtime_info",
    "meshd.workloads.sandboxes",
    "proxy.balancing",
    "proxy.filters",
    "proxy.grpc",
    "proxy.requests",
    "proxy.routing",
    "proxy.tls",
)
"""Modules and packages that decide and do no I/O."""
IMPURE_LIBRARIES = frozenset(
    {"aiohttp", "asyncio", "bcc", "fcntl", "grpc", "inotify_simple", "os", "pyroute2", "select", "signal"}
    | {"socket", "subprocess", "threading", "time", "uvloop"}
)


def _modules() -> dict[str, Path]:
    found = {}
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def _all(package: str) -> list[str]:
    found = sorted(module for module in MODULES if _within(module, (package,)))
    assert found, f"there is no {package}"
    return found


def test_the_model_imports_nothing_of_ours() -> None:
    for module in _all("meshd.model"):
        strangers = [
            name for name in _imports(module) if _within(name, OURS) and not _within(name, ("meshd.model",))
        ]
        assert not strangers, f"{module} imports {strangers}"


@pytest.mark.parametrize("package", PURE)
def test_pure_modules_import_the_model_and_pure_modules_only(package: str) -> None:
    for module in _all(package):
        for name in _imports(module):
            if _within(name, OURS):
                assert _within(name, ("meshd.model", *PURE)) or _is_pure_leaf(name), (
                    f"{module} imports {name}"
                )
            else:
                assert name.split(".")[0] not in IMPURE_LIBRARIES, f"{module} imports {name}"


def _is_pure_leaf(module: str) -> bool:
    """A module beside a pure one that is pure itself."""
    return all(
        _within(name, ("meshd.model", *PURE)) or _is_pure_leaf(name)
        if _within(name, OURS)
        else name.split(".")[0] not in IMPURE_LIBRARIES
        for name in _imports(module)
    )


def test_one_module_imports_bcc() -> None:
    importers = [m for m in MODULES if any(name.split(".")[0] == "bcc" for name in _imports(m))]
    assert len(importers) == 1, importers


def test_proxy_and_agent_are_strangers() -> None:
    for module in _all("proxy"):
        bad = [
            n
            for n in _imports(module)
            if _within(n, ("meshd.agent", "meshd.control", "meshd.lab", "meshd.cli"))
        ]
        assert not bad, f"{module} imports {bad}"
    for module in _all("meshd"):
        bad = [name for name in _imports(module) if _within(name, ("proxy",))]
        assert not bad, f"{module} imports {bad}"


def test_everything_that_is_imported_from_ours_exists() -> None:
    for module in MODULES:
        for name in _imports(module):
            if _within(name, OURS):
                assert name in MODULES or name.rpartition(".")[0] in MODULES, f"{module} imports {name}"
