"""What a Deployment's controller does next: how many pods to make and which to end. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import msgspec

from meshd.lab.manifests.objects import Pod, PodTemplate, RollingUpdate, Strategy

_HASH_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels, as in Kubernetes' rand.SafeEncodeString."""


@dataclasses.dataclass(frozen=True, slots=True)
class Replica:
    """One of a Deployment's pods that has not been told to end."""

    name: str
    template: str
    """The hash of the template that it was made from."""
    ready: bool
    age: float
    """Seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """The next step of a rollout; nothing to do when both are empty."""

    create: int = 0
    delete: tuple[str, ...] = ()


def template_hash(template: PodTemplate | Pod) -> str:
    """A short name of what a pod is made from: what is equal has equal hashes."""
    number = int.from_bytes(
        hashlib.sha256(msgspec.json.encode(template, order="deterministic")).digest()[:8], "big"
    )
    letters = []
    for _ in range(10):
        number, index = divmod(number, len(_HASH_ALPHABET))
        letters.append(_HASH_ALPHABET[index])
    return "".join(letters)


def next_step(wanted: int, template: str, strategy: Strategy, replicas: list[Replica]) -> Step:
    """The next step towards ``wanted`` replicas of ``template``.

    Never more than wanted + maxSurge pods, never fewer ready ones than wanted - maxUnavailable (Kubernetes,
    "Rolling Update Deployment"). Pods that are already ending count for neither.
    """
    new = [r for r in replicas if r.template == template]
    old = [r for r in replicas if r.template != template]
    if strategy.type == "Recreate" and old:
        return Step(delete=tuple(r.name for r in old))
    surge, unavailable = _bounds(wanted, strategy.rolling_update)
    create = max(0, min(wanted - len(new), wanted + surge - len(replicas)))
    # Those who do not serve go first; among equals the youngest.
    excess = sorted(new, key=lambda r: (r.ready, r.age))[: max(0, len(new) - wanted)]
    ready_left = sum(r.ready for r in replicas) - sum(r.ready for r in excess)
    retire: list[Replica] = []
    for replica in sorted(old, key=lambda r: (r.ready, r.age)):
        if not replica.ready:
            retire.append(replica)
        elif ready_left > wanted - unavailable:
            retire.append(replica)
            ready_left -= 1
    return Step(create, tuple(r.name for r in (*excess, *retire)))


def _bounds(wanted: int, limits: RollingUpdate) -> tuple[int, int]:
    """Surge is rounded up, unavailability down; both nought would never end: then one may be missing."""
    surge = math.ceil(_count(limits.max_surge, wanted))
    unavailable = math.floor(_count(limits.max_unavailable, wanted))
    return (0, 1) if surge == unavailable == 0 else (surge, unavailable)


def _count(value: int | str, wanted: int) -> float:
    return value if isinstance(value, int) else wanted * int(value.removesuffix("%")) / 100
