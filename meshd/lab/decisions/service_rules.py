"""kube-proxy's work as an nftables ruleset, for those whom the mesh does not serve. Pure.

It stands in the output hook of the caller's own network namespace: a pod that reaches itself through its
Service needs no masquerade there.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshd.lab.decisions.resolution import Target

TABLE = "inet meshd_lab"


def ruleset(targets: Iterable[Target], protocols: frozenset[str] = frozenset({"TCP", "UDP"})) -> str:
    """An nft script that replaces the lab's table in one transaction, for targets of these protocols."""
    mine = [target for target in targets if target.protocol in protocols]
    script = f"add table {TABLE}\ndelete table {TABLE}\n"
    if not mine:
        return script
    dnat = "\n".join(f"    {_match(target)} {_dnat(target)}" for target in mine if target.servers)
    served = "\n".join(f"    {_match(target)} return" for target in mine if target.servers)
    l4 = ", ".join(sorted(protocol.lower() for protocol in protocols))
    refused = "\n".join(
        f"    {_family(vip)} daddr {vip} meta l4proto {{ {l4} }} reject"
        for vip in sorted({t.vip for t in mine})
    )
    return f"""{script}table {TABLE} {{
  chain refuse {{
    type filter hook output priority -110; policy accept;
{served}
{refused}
  }}
  chain services {{
    type nat hook output priority -100; policy accept;
{dnat}
  }}
}}
"""


def _family(vip: str) -> str:
    return "ip6" if ":" in vip else "ip"


def _match(target: Target) -> str:
    return f"{_family(target.vip)} daddr {target.vip} {target.protocol.lower()} dport {target.port}"


def _dnat(target: Target) -> str:
    choices = ", ".join(f"{i} : {address} . {port}" for i, (address, port) in enumerate(target.servers))
    return f"dnat {_family(target.vip)} to numgen random mod {len(target.servers)} map {{ {choices} }}"
