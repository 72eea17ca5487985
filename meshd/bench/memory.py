"""What a mesh holds resident, against the pods on a node.

One lab is up at a time: a hundred sidecars take their room.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

from meshd.bench import accounting, guards, manifests, testbed
from meshd.bench.guards import Deadline
from meshd.bench.results import Memory
from meshd.bench.testbed import Bed

_UP_SECONDS = 300
_SETTLE_SECONDS = 2.0


def measured(
    beds: Sequence[Bed], steps: Sequence[int], deadline: Deadline, say: Callable[[str], None]
) -> Iterator[Memory]:
    """Each bed with so many idle pods, one number after the other. A bed's lab is up only meanwhile."""
    meshes = [bed for bed in beds if bed.scenario != "direct"]
    left = len(meshes) * len(steps)
    for bed in meshes:
        for pods in steps:
            if deadline.passed(f"{left} measurements of memory are not made"):
                return
            say(f"memory, {left} to go: {bed.scenario} with {pods} pods")
            left -= 1
            found = _step(bed, pods, is_first=pods == steps[0])
            yield found
            if found.not_measured:
                break
        for problem in testbed.take_down([bed]):
            say(problem)


def _step(bed: Bed, pods: int, is_first: bool) -> Memory:
    manifest = bed.folder / "idle.yaml"
    objects = [*manifests.services(bed.scenario), *manifests.idle_pods(pods)]
    manifest.write_text("\n---\n".join(map(json.dumps, objects)))
    with guards.ended() as started:
        started.append(bed.up(manifest, 1) if is_first else bed.apply(manifest, _UP_SECONDS))
        reason = testbed.wait(started[0], _UP_SECONDS)
    if reason:
        return Memory(scenario=bed.scenario, pods=pods, not_measured=reason)
    time.sleep(_SETTLE_SECONDS)
    mesh = bed.mesh_processes("same-node")
    return Memory(
        scenario=bed.scenario,
        pods=pods,
        rss_mb=round(accounting.resident_mb(mesh), 1),
        pss_mb=round(accounting.proportional_mb(mesh), 1),
    )
