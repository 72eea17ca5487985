"""Loads the watch on splice(2): ``python -m meshd.datapath.splicing.load``.

Sends the fds of program and map over the socket that is its standard input, and ends. Nothing is pinned:
what watches ends with who holds the fds.
"""

from __future__ import annotations

import platform
import socket
import sys

from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel.bpf import AttachType
from meshd.datapath.loading import source
from meshd.datapath.loading.load import compile_other
from meshd.datapath.loading.programs import RAW_TRACEPOINT, Program

_CALL = {"x86_64": 275, "aarch64": 76}
_WATCH = Program("system_call", RAW_TRACEPOINT, AttachType.NONE, "4.17")


def main() -> int:
    """Exit code 0, or 1 with the reason as standard error's last line."""
    try:
        number = _CALL.get(platform.machine())
        if number is None:
            raise DatapathError(f"the number of splice(2) on {platform.machine()} is not known")
        unit = compile_other("splice.c", SPLICE_CALL=number)
        with socket.socket(fileno=sys.stdin.fileno()) as agent:
            socket.send_fds(agent, [b"."], [unit.load(_WATCH), unit.map_fd("callers")])
            agent.detach()
    except (DatapathError, source.SourceMissingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
