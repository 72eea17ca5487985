"""What it costs that a service's TCP is joined in the kernel, or not: ``python -m bench.opaque_tcp``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import labs
from bench.bare_sockmap import markdown, rounds
from meshd.bench import manifests
from meshd.bench.guards import BusyError
from meshd.bench.plan import Load
from meshd.bench.results import Scenario
from meshd.bench.samples import LoadError
from meshd.bench.testbed import Bed, BedError
from meshd.lab.command.client import LabError
from meshd.lab.names import Lab

_BEDS: dict[str, Scenario] = {"direct": "direct", "opaque": "meshd-fast", "joined": "meshd-fast"}
_LOADS = (
    *(Load("same-node", connections) for connections in (1, 16, 64)),
    *(Load("same-node", connections, 1 << 20) for connections in (1, 4)),
)
_SERVICE = "metadata:\n  name: near\n"


def _opaque(manifest: Path, joined: bool) -> None:
    """Have the service speak TCP of which the mesh knows nothing more. Raises OSError."""
    text = manifest.read_text().replace("- name: http\n    port:", "- name: tcp\n    port:")
    if joined:
        annotated = _SERVICE + '  annotations:\n    meshd.io/tcp-fast-path: "on"\n'
        text = text.replace("kind: Service\n" + _SERVICE, "kind: Service\n" + annotated)
    manifest.write_text(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench.opaque_tcp", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=1, help="for each run (default: %(default)s)")
    options = parser.parse_args(arguments)
    if missing := labs.missing(list(_BEDS.values())):
        print(f"bench.opaque_tcp: {missing}", file=sys.stderr)
        return 1
    sizes = {load.body_bytes for load in _LOADS}
    try:
        with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
            beds = {
                name: Bed(scenario, Lab(f"tcp{name}"), Path(folder) / name)
                for name, scenario in _BEDS.items()
            }
            files = {}
            for name, bed in beds.items():
                bed.folder.mkdir()
                files[bed] = manifests.write(bed.folder, sizes, 1, bed.scenario == "direct")
                if bed.scenario != "direct":
                    _opaque(files[bed], name == "joined")
            with labs.running(files):
                found = rounds(beds, _LOADS, options.rounds, options.seconds)
    except KeyboardInterrupt:
        return 130
    except (BedError, BusyError, LabError, LoadError, OSError, subprocess.TimeoutExpired) as error:
        print(f"bench.opaque_tcp: {error}", file=sys.stderr)
        return 1
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
