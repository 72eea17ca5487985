/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the maps hold. User space has no second definition: it reads these from the BTF of the
 * loaded maps (meshd/datapath/btf.py). Field names are therefore part of the contract.
 */
#ifndef MESHD_TYPES_H
#define MESHD_TYPES_H

/* A TCP destination or source. IPv4 addresses are in their v4-mapped IPv6 form (::ffff:a.b.c.d), so
 * that an IPv4 socket and an IPv6 socket that carries IPv4 meet in the same entry.
 */
struct address_port {
	__be32 address[4];
	__u16 port; /* host order */
	__u16 zero; /* keys are compared as bytes */
};

enum protocol {
	PROTOCOL_HTTP = 1, /* connections go to the proxy */
	PROTOCOL_TCP = 2,  /* connections go to an endpoint that the kernel picks */
};

enum failure_policy {
	FAILURE_POLICY_OPEN = 1,
	FAILURE_POLICY_CLOSED = 2,
};

/* Bits of member.flags. */
enum member_flag {
	MEMBER_FAST_PATH = 1, /* sockets of this workload may be enrolled */
};

/* A network namespace that the mesh serves. */
struct member {
	__u16 port4; /* of the in-pod listener on 127.0.0.1, host order; 0: there is none */
	__u16 port6; /* the same on ::1 */
	enum member_flag flags;
};

/* One VIP and port. The endpoints of its address family are the slots [first_slot, first_slot +
 * slots) of the generation named here; a change writes a new generation's slots before it shows
 * them here.
 */
struct service {
	__u32 id;
	__u32 generation;
	__u32 first_slot;
	__u32 slots;
	enum protocol protocol;
	enum failure_policy failure_policy;
};

struct endpoint_key {
	__u32 service;
	__u32 generation;
	__u32 slot;
};

/* The client's end of a captured connection, as the proxy sees it from the accepted socket: its
 * peer's address and port. The cookie tells apart the namespaces, which all have a 127.0.0.1.
 */
struct flow_key {
	__u64 netns;
	struct address_port client;
	__u32 zero;
};

/* What a client socket asked for before its destination was rewritten. */
struct origin {
	struct address_port destination;
	__u32 captured; /* 1: the connection goes to the in-pod listener; 0: to an endpoint */
};

/* Written by the agent. */
struct settings {
	__u64 heartbeat_timeout_ns; /* a worker that has not beaten for longer is not alive */
	__u32 mark;		    /* SO_MARK of the proxy's own sockets */
	__u32 fast_path;	    /* 1: enrol sockets for the verdict program */
};

/* Counters since load. The names are those that user space shows. */
struct stats {
	__u64 captured;	       /* connects sent to the proxy */
	__u64 balanced;	       /* connects of opaque TCP services sent to an endpoint */
	__u64 failed_open;     /* connects of HTTP services let past the proxy */
	__u64 failed_closed;   /* the same, refused */
	__u64 bound_to_device; /* of those two: bound to a device, loopback is out of reach */
	__u64 no_endpoint;     /* connects refused for want of an endpoint */
	__u64 no_memory;       /* sockets that could not be given an origin record */
	__u64 flows_opened;    /* captured connections whose handshake was done */
	__u64 flows_closed;    /* of those, the ones that have ended */
	__u64 flows_full;      /* captured connections that found no room in flows */
	__u64 enrolled;	       /* sockets put into the sockets map */
	__u64 enrol_failed;    /* sockets that could not be */
};

#endif
