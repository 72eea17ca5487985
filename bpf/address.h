/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses in their one form: see struct address_port. */
#ifndef MESHD_ADDRESS_H
#define MESHD_ADDRESS_H

#include "consts.h"
#include "types/address.h"

#define V4_MAPPED_PREFIX bpf_htonl(0xffff)
#define LOOPBACK4	 bpf_htonl(0x7f000001)

static __always_inline bool is_ipv4(const struct address_port *a)
{
	return a->address[0] == 0 && a->address[1] == 0 && a->address[2] == V4_MAPPED_PREFIX;
}

static __always_inline void set_ipv4(struct address_port *a, __be32 address, __u16 port)
{
	a->address[0] = 0;
	a->address[1] = 0;
	a->address[2] = V4_MAPPED_PREFIX;
	a->address[3] = address;
	a->port = port;
	a->zero = 0;
}

static __always_inline bool same_end(const struct address_port *a, const struct address_port *b)
{
	return a->address[3] == b->address[3] && a->port == b->port &&
	       a->address[2] == b->address[2] && a->address[1] == b->address[1] &&
	       a->address[0] == b->address[0];
}

/* A context field, loaded here and nowhere else. Without it the compiler moves the loads of two
 * branches behind them, as one load through a computed pointer, which the verifier refuses
 * ("dereference of modified ctx ptr").
 */
#define CTX_U32(field) (*(volatile __u32 *)&(field))

static __always_inline void set_address_port(
	struct address_port *a, u32 family, __be32 ipv4, const __be32 ipv6[4], __u16 port)
{
	if (family == AF_INET) {
		set_ipv4(a, ipv4, port);
		return;
	}
	a->address[0] = ipv6[0];
	a->address[1] = ipv6[1];
	a->address[2] = ipv6[2];
	a->address[3] = ipv6[3];
	a->port = port;
	a->zero = 0;
}

/* The ends of an established socket, from a context of sock_ops, sk_msg or sk_skb, whose fields
 * have the same names. An IPv6 socket that carries IPv4 (family AF_INET6) has the v4-mapped
 * addresses in its IPv6 fields already. The local port is in host order, the remote one is not.
 */
#define SET_LOCAL(a, ctx)                                                                          \
	do {                                                                                       \
		__be32 ipv4_ = CTX_U32((ctx)->local_ip4);                                          \
		__be32 ipv6_[4] = {CTX_U32((ctx)->local_ip6[0]), CTX_U32((ctx)->local_ip6[1]),     \
			CTX_U32((ctx)->local_ip6[2]), CTX_U32((ctx)->local_ip6[3])};               \
		set_address_port(a, (ctx)->family, ipv4_, ipv6_, CTX_U32((ctx)->local_port));      \
	} while (0)

#define SET_REMOTE(a, ctx)                                                                         \
	do {                                                                                       \
		__be32 ipv4_ = CTX_U32((ctx)->remote_ip4);                                         \
		__be32 ipv6_[4] = {CTX_U32((ctx)->remote_ip6[0]), CTX_U32((ctx)->remote_ip6[1]),   \
			CTX_U32((ctx)->remote_ip6[2]), CTX_U32((ctx)->remote_ip6[3])};             \
		set_address_port(                                                                  \
			a, (ctx)->family, ipv4_, ipv6_, bpf_ntohl(CTX_U32((ctx)->remote_port)));   \
	} while (0)

#endif
