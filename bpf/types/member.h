/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The workloads of this node. */
#ifndef MESHD_TYPES_MEMBER_H
#define MESHD_TYPES_MEMBER_H

/* Bits of member.flags. */
enum member_flag {
	MEMBER_FAST_PATH = 1, /* sockets of this workload may be enrolled */
	MEMBER_JOINS = 2,     /* its connections to opaque TCP services are joined, whatever these
				 say */
	MEMBER_JOINS_NOT = 4, /* none of its connections is, at either end */
};

/* A network namespace that the mesh serves. */
struct member {
	__u16 port4; /* of the in-pod listener on 127.0.0.1, host order; 0: there is none */
	__u16 port6; /* the same on ::1 */
	enum member_flag flags;
};

/* An address of a workload, as in address_port. */
struct home_address {
	__be32 address[4];
};

#endif
