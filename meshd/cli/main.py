"""The command line: ``meshd COMMAND``. Each command is a module beside this one."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from meshd import __version__
from meshd.cli.errors import CommandError

_VIEWS = ("status", "services", "routes", "endpoints", "workloads", "flows")
_MODULES = {
    "lab": "lab",
    **dict.fromkeys(_VIEWS, "status"),
    "explain": "explain",
    "bench": "bench",
    "agent": "agent",
    "control": "control",
    "check": "check",
    "cleanup": "cleanup",
    "grpc-bootstrap": "grpc_bootstrap",
}
"""The module that has a command, in the order in which help shows them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="meshd", description="A sidecarless service mesh: eBPF capture and one shared L7 proxy a node."
    )
    parser.add_argument("--version", action="version", version=f"meshd {__version__}")
    commands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    given = sys.argv[1:] if arguments is None else arguments
    # A command does not wait for what the others import, and a daemon does not carry it.
    meant = _MODULES.get(given[0]) if given else None
    for name in (meant,) if meant else dict.fromkeys(_MODULES.values()):
        importlib.import_module(f"meshd.cli.{name}").add_parser(commands)
    parsed = parser.parse_args(given)
    try:
        return int(parsed.run(parsed))
    except CommandError as error:
        print(f"meshd {parsed.subcommand}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
