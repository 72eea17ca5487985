/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sizes, all tunable with -D, and the numbers of other people's headers that the shim tree leaves
 * out. */
#ifndef MESHD_CONSTS_H
#define MESHD_CONSTS_H

/* Pods of the mesh on one node. Kubernetes' own limit is 110 by default; 500 is the most in use. */
#ifndef MESHD_MAX_MEMBERS
#define MESHD_MAX_MEMBERS 4096
#endif

/* VIP and port pairs of the whole cluster. */
#ifndef MESHD_MAX_SERVICES
#define MESHD_MAX_SERVICES 65536
#endif

/* Slots of all services together. During a change a service has its old and its new slots. */
#ifndef MESHD_MAX_ENDPOINTS
#define MESHD_MAX_ENDPOINTS 262144
#endif

/* Captured connections open at one time on the node. */
#ifndef MESHD_MAX_FLOWS
#define MESHD_MAX_FLOWS 131072
#endif

/* Proxy workers of the node: each has a heartbeat of its own. */
#ifndef MESHD_MAX_WORKERS
#define MESHD_MAX_WORKERS 64
#endif

#define AF_INET	    2
#define AF_INET6    10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6

#define EEXIST	     17
#define ECONNREFUSED 111

/* The loopback device has this index in every network namespace (kernel 2.6.39 and later). */
#define LOOPBACK_IFINDEX 1

#endif
