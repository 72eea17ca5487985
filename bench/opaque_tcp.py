"""What it costs that a service's TCP is joined in the kernel, or not: ``python -m bench.opaque_tcp``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench import ways
from bench.ways import Ways
from meshd.bench.plan import Load
from meshd.bench.testbed import Bed

_WAYS = Ways(
    "bench.opaque_tcp",
    {"direct": "direct", "opaque": "meshd-fast", "joined": "meshd-fast"},
    (
        *(Load("same-node", connections) for connections in (1, 16, 64)),
        *(Load("same-node", connections, 1 << 20) for connections in (1, 4)),
    ),
)
_SERVICE = "kind: Service\nmetadata:\n  name: near\n  annotations:\n"


def _adapt(way: str, _bed: Bed, manifest: Path) -> None:
    """Have the service speak TCP of which the mesh knows nothing more. Raises OSError."""
    if way == "direct":
        return
    text = manifest.read_text().replace("- name: http\n    port:", "- name: tcp\n    port:")
    if way == "joined":
        text = text.replace(_SERVICE, _SERVICE + '    meshd.io/tcp-fast-path: "on"\n')
    manifest.write_text(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    return ways.compare(_WAYS, ways.parser(_WAYS.program, __doc__).parse_args(arguments), _adapt)


if __name__ == "__main__":
    sys.exit(main())
