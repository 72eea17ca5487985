"""The BPF programs: their names in bpf/meshd.c, what they are, and where they are attached."""

from __future__ import annotations

from typing import NamedTuple

from meshd.datapath.kernel.bpf import AttachType

# enum bpf_prog_type
SOCK_OPS = 13
SK_SKB = 14
SK_MSG = 16
RAW_TRACEPOINT = 17
CGROUP_SOCK_ADDR = 18


class Program(NamedTuple):
    """One program. ``kernel``: the first release that takes it with the helpers it calls."""

    name: str
    type: int
    attach_type: AttachType
    kernel: str


# In the order of attachment: a connection must find the record keeper in place before it is captured,
# and what shows its first destination before it can be asked for. Detach in the reverse order.
CGROUP_PROGRAMS = (
    Program("sock_ops", SOCK_OPS, AttachType.CGROUP_SOCK_OPS, "5.15"),
    Program("getpeername4", CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETPEERNAME, "5.8"),
    Program("getpeername6", CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_GETPEERNAME, "5.8"),
    Program("connect4", CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, "5.18"),
    Program("connect6", CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT, "5.18"),
)
# What runs when an enrolled socket sends, or has received: a program and the map whose sockets it is for.
SOCKET_PROGRAMS = (
    (Program("client_msg", SK_MSG, AttachType.SK_MSG_VERDICT, "5.15"), "clients"),
    (Program("server_msg", SK_MSG, AttachType.SK_MSG_VERDICT, "5.15"), "servers"),
    (Program("joined_msg", SK_MSG, AttachType.SK_MSG_VERDICT, "5.15"), "joined"),
    (Program("arrived", SK_SKB, AttachType.SK_SKB_VERDICT, "5.15"), "clients"),
    (Program("arrived", SK_SKB, AttachType.SK_SKB_VERDICT, "5.15"), "servers"),
    (Program("arrived", SK_SKB, AttachType.SK_SKB_VERDICT, "5.15"), "joined"),
    (Program("remote_answer", SK_SKB, AttachType.SK_SKB_VERDICT, "5.15"), "upstreams"),
)

# What runs wherever the kernel comes by: a program and the tracepoint.
TRACEPOINT_PROGRAMS = (
    (Program("tcp_read", RAW_TRACEPOINT, AttachType.NONE, "5.15"), "tcp_rcv_space_adjust"),
)

PROGRAMS = tuple(
    dict.fromkeys((*CGROUP_PROGRAMS, *(program for program, _ in (*SOCKET_PROGRAMS, *TRACEPOINT_PROGRAMS))))
)
