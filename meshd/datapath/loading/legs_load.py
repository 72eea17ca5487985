"""Loads the sockmap under a lab node's Envoy: ``python -m meshd.datapath.loading.legs_load``.

Pins what keeps it in force, and ends: the link to the node's cgroup, and the map of sockets, whose programs
go with its last pin. ``meshd lab down`` and ``meshd cleanup`` remove both.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from pathlib import Path

from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.bpf import AttachType
from meshd.datapath.loading import source
from meshd.datapath.loading.load import compile_other
from meshd.datapath.loading.pins import Pins
from meshd.datapath.loading.programs import SK_MSG, SK_SKB, SOCK_OPS, Program

_MAP = "sockets"
_OPS = Program("leg_ops", SOCK_OPS, AttachType.CGROUP_SOCK_OPS, "5.15")
_OF_MAP = (
    Program("leg_arrived", SK_SKB, AttachType.SK_SKB_VERDICT, "5.15"),
    Program("leg_msg", SK_MSG, AttachType.SK_MSG_VERDICT, "5.15"),
)


def main() -> int:
    """Exit code 0, or 1 with the reason as standard error's last line."""
    parser = argparse.ArgumentParser(prog="python -m meshd.datapath.loading.legs_load", description=__doc__)
    parser.add_argument("--instance", required=True)
    parser.add_argument("--cgroup", type=Path, required=True, help="of the node's pods and its Envoy")
    for what in ("pods", "services"):
        parser.add_argument(f"--{what}-v4", type=ipaddress.IPv4Network, required=True)
        parser.add_argument(f"--{what}-v6", type=ipaddress.IPv6Network, required=True)
    args = parser.parse_args()
    try:
        pods = _constants("PODS", args.pods_v4, args.pods_v6)
        services = _constants("SERVICES", args.services_v4, args.services_v6)
        _load(args.instance, args.cgroup, pods | services)
    except (DatapathError, source.SourceMissingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _constants(name: str, v4: ipaddress.IPv4Network, v6: ipaddress.IPv6Network) -> dict[str, int]:
    """The ranges, as bpf/legs.c wants them."""
    high, low = divmod(int(v6.network_address) >> 64, 1 << 32)
    return {f"{name}4": int(v4.network_address), f"{name}6_HIGH": high, f"{name}6_LOW": low}


def _load(instance: str, cgroup: Path, constants: dict[str, int]) -> None:
    pins = Pins(instance)
    pins.make()
    unit = compile_other("legs.c", **constants)
    sockets = unit.map_fd(_MAP)
    bpf.pin(sockets, str(pins.maps / _MAP))
    for program in _OF_MAP:
        bpf.attach_to_map(unit.load(program), sockets, program.attach_type)
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        link = bpf.attach_cgroup(unit.load(_OPS), folder, _OPS.attach_type)
    finally:
        os.close(folder)
    try:
        bpf.pin(link, str(pins.link(_OPS.name)))
    finally:
        os.close(link)


if __name__ == "__main__":
    sys.exit(main())
