"""What the kernel's sockmap costs by itself, without HTTP: ``python -m bench.bare_sockmap``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import ways
from bench.ways import Ways
from meshd.bench.plan import Load
from meshd.bench.testbed import Bed, BedError
from meshd.lab.decisions.addressing import NodeNet
from meshd.lab.names import Lab
from meshd.lab.system import cgroup

_WAYS = Ways(
    "bench.bare_sockmap",
    {"direct": "direct", "sockmap": "direct", "meshd-fast": "meshd-fast"},
    (Load("same-node", 64), Load("same-node", 1, 1 << 20), Load("same-node", 4, 1 << 20)),
)
_NODE = NodeNet(1)
_LOAD_SECONDS = 60
_SENDFILE = "sendfile on;"


def _load_sockmap(lab: Lab) -> None:
    """Join the pods of a lab that has no mesh, as bpf/legs.c joins pods with their node's Envoy: to it, every
    pod is a service, too. The lab's end removes it. Raises BedError, OSError.
    """
    group = cgroup.find_root() / lab.node_cgroup(_NODE.name)
    command = [sys.executable, "-m", "meshd.datapath.loading.legs_load"]
    command += ["--instance", lab.instance(_NODE.name), "--cgroup", str(group)]
    command += ["--pods-v4", str(_NODE.pods_v4), "--pods-v6", str(_NODE.pods_v6)]
    command += ["--services-v4", str(_NODE.pods_v4.supernet(new_prefix=16))]
    command += ["--services-v6", str(_NODE.pods_v6)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LOAD_SECONDS, check=False)
    if done.returncode:
        raise BedError(f"the sockmap cannot be loaded: {done.stderr.strip()[-300:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = ways.parser(_WAYS.program, __doc__)
    parser.add_argument("--write", action="store_true", help="answers by write(2), not sendfile(2)")
    options = parser.parse_args(arguments)

    def adapt(_way: str, bed: Bed, _manifest: Path) -> None:
        config = bed.folder / "nginx.conf"
        if options.write:
            config.write_text(config.read_text().replace(_SENDFILE, "sendfile off;"))

    return ways.compare(_WAYS, options, adapt, lambda beds: _load_sockmap(beds["sockmap"].lab))


if __name__ == "__main__":
    sys.exit(main())
