"""The maps of bpf/maps.h by name, and which of them are whose."""

from __future__ import annotations

MAPS = (
    "members",
    "homes",
    "services",
    "endpoints",
    "flows",
    "blank_flow",
    "kept",
    "blank_piece",
    "armed",
    "connections",
    "arrivals",
    "rule_sets",
    "paths",
    "requests",
    "blank_count",
    "upcalls",
    "judged",
    "blank_answer",
    "origins",
    "heartbeat",
    "bell",
    "bells",
    "splice_readers",
    "owners",
    "settings",
    "stats",
    "spliced_flows",
    "spliced_armed",
    "spliced",
    "joined_ends",
    "joined",
    "clients",
    "servers",
    "upstreams",
)

WORKER_MAPS = (
    *("flows", "heartbeat", "armed", "connections", "upstreams", "owners", "kept", "bells"),
    *("spliced_flows", "spliced_armed", "spliced"),
)
"""What a proxy worker reads and writes."""
CARRIED_MAPS = ("members", "homes", "services", "endpoints", "flows", "settings")
"""What an upgrade carries from maps of an earlier layout into those of its own."""
SIDE_BY_SIDE = frozenset((*WORKER_MAPS, *CARRIED_MAPS, "rule_sets", "paths"))
"""A version of which a worker could not use the earlier one's maps has all of these of its own: until its
programs are in force the earlier ones find there what they need, whatever the new version writes."""

INNER_MAPS = {"bells": "bell"}
"""Maps of maps, each with the map that those in it are like."""
