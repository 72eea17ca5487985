"""Mode ``node-proxy-sockmap``: puts a sockmap under a node's Envoy (bpf/legs.c).

Between a pod and the Envoy of its own node what one side sends is put into the other's queue, without TCP in
between. It stays pinned under the node's instance name, where ``sweep`` finds it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from meshd.lab.decisions.addressing import SERVICES_V4, SERVICES_V6, NodeNet
from meshd.lab.names import Lab
from meshd.lab.system import process
from meshd.lab.system.process import Surroundings
from meshd.lab.system.sandbox import Sandbox

_LOAD_SECONDS = 30.0


class SockmapError(RuntimeError):
    """The programs could not be loaded: why."""


async def load(lab: Lab, node: NodeNet, cgroup_root: Path) -> None:
    """Load the programs for a node, whose cgroup is there already. Raises SockmapError."""
    group = cgroup_root / lab.node_cgroup(node.name)
    command = [sys.executable, "-m", "meshd.datapath.loading.legs_load"]
    command += ["--instance", lab.instance(node.name), "--cgroup", str(group)]
    command += ["--pods-v4", str(node.pods_v4), "--pods-v6", str(node.pods_v6)]
    command += ["--services-v4", str(SERVICES_V4), "--services-v6", str(SERVICES_V6)]
    output = lab.log(f"sockmap-{node.name}")
    inside = Surroundings(Sandbox(cgroup_root / lab.cgroup / "supervisor"), output, os.environ)
    try:
        code = await process.run(command, inside, _LOAD_SECONDS)
    except process.StartError as error:
        raise SockmapError(str(error)) from error
    if code:
        last = output.read_text(errors="replace").strip().splitlines()[-1:] or [f"exit code {code}"]
        raise SockmapError(f"{node.name}: the sockmap cannot be loaded: {last[0]}")
