"""``python -m soak``: 5,000 connections for five minutes, on a node of its own."""

from __future__ import annotations

import argparse
import secrets
import sys

from soak.run import soak


def main() -> int:
    """0: nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="default: %(default)g")
    parser.add_argument("--connections", type=int, default=5000, help="at a time; default: %(default)d")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="default: another each time")
    options = parser.parse_args()
    print(f"{options.connections} connections for {options.seconds:g} s, seed {options.seed}", flush=True)
    result = soak(options.seconds, options.connections, options.seed)
    print(f"connections  {result.opened} in {result.seconds:.0f} s")
    print(f"requests     {result.received} came whole to servers, {result.carried} of them by the kernel")
    for end, count in result.ends.items():
        print(f"  {count:9} {end.value}")
    before, after = result.worker_megabytes
    print(f"workers      {before:.0f} MB before, {after:.0f} MB after")
    for fault in result.faults:
        print(f"FAULT        {fault}")
    print("nothing wrong, nothing left" if not result.faults else f"{len(result.faults)} faults")
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
