"""``meshd check``: whether this node can carry meshd. A line each: what, found, how to mend."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

_COLOURS = {"ok": "\x1b[32m", "note": "\x1b[33m", "fail": "\x1b[31m"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="test whether this node can carry meshd",
        description=__doc__,
        epilog="Nothing is changed. Exit code 0: it can; 1: a line says fail.",
    )
    parser.add_argument("--instance", default="default", help="whose pins to look at (default: %(default)s)")
    parser.add_argument(
        "--cgroup", type=Path, help="where the agent attaches (default: the root of cgroup v2)"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check everything and print the findings; 1 if one of them is a failure."""
    from meshd.datapath.node_check import Verdict, findings

    found = []
    for finding in findings(args.instance, args.cgroup):
        found.append(finding)
        if args.output == "text":
            _print(finding.check, finding.verdict.value, finding.found, finding.mend)
    failed = any(finding.verdict is Verdict.FAIL for finding in found)
    if args.output == "json":
        document = {"ok": not failed, "findings": found}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    return 1 if failed else 0


def _print(check: str, verdict: str, found: str, mend: str) -> None:
    mark = verdict.ljust(4)
    if sys.stdout.isatty():
        mark = f"{_COLOURS[verdict]}{mark}\x1b[0m"
    print(f"{mark}  {check:<21}  {found}{f'; {mend}' if mend else ''}", flush=True)
