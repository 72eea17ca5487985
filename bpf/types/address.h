/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses, and what is named by them. */
#ifndef MESHD_TYPES_ADDRESS_H
#define MESHD_TYPES_ADDRESS_H

/* A TCP destination or source. IPv4 addresses are in their v4-mapped IPv6 form (::ffff:a.b.c.d), so
 * that an IPv4 socket and an IPv6 socket that carries IPv4 meet in the same entry.
 */
struct address_port {
	__be32 address[4];
	__u16 port; /* host order */
	__u16 zero; /* keys are compared as bytes */
};

/* The client's end of a captured connection, as the proxy sees it from the accepted socket: its
 * peer's address and port. The cookie tells apart the namespaces, which all have a 127.0.0.1.
 */
struct flow_key {
	__u64 netns;
	struct address_port client;
	__u32 zero;
};

/* A connection as one of its ends has it. */
struct ends {
	struct address_port local;
	struct address_port remote;
};

/* A connection from the proxy (U) to a server (S). On one node both ends have the same record. */
struct connection_key {
	struct address_port proxy;  /* U's own end */
	struct address_port server; /* S's own end */
};

#endif
