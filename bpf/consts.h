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

/* Proxy workers of the node: each has a heartbeat and a bell of its own. */
#ifndef MESHD_MAX_WORKERS
#define MESHD_MAX_WORKERS 128
#endif

/* And the agent has the one after theirs: there it hears of answers by which endpoints are ejected.
 */
#define AGENT_BELL MESHD_MAX_WORKERS
/* And one more, where it hears of sockets that are read by splice(2). */
#define SPLICE_BELL (AGENT_BELL + 1)

/* Bytes of a ring buffer: a power of two, in whole pages of any machine. A worker's event takes 48,
 * an agent's 64.
 */
#ifndef MESHD_BELL_BYTES
#define MESHD_BELL_BYTES (64 << 10)
#endif

/* Connections between the proxy and servers, each with one end on this node. */
#ifndef MESHD_MAX_CONNECTIONS
#define MESHD_MAX_CONNECTIONS 131072
#endif

/* Later pieces of kept requests: see bpf/kept.h. Few requests are so long that they have one. */
#ifndef MESHD_MAX_KEPT_PIECES
#define MESHD_MAX_KEPT_PIECES MESHD_MAX_FLOWS
#endif

/* Paths that routes name, of all services. During a change a service has its old and its new ones.
 */
#ifndef MESHD_MAX_PATHS
#define MESHD_MAX_PATHS 131072
#endif

/* Ends of joined connections: two for each. */
#ifndef MESHD_MAX_JOINED
#define MESHD_MAX_JOINED 131072
#endif

/* HTTP/2 connections that are spliced. */
#ifndef MESHD_MAX_SPLICED
#define MESHD_MAX_SPLICED 65536
#endif

/* Sockets that were read by splice(2) and that the agent has not seen to. The oldest go. */
#ifndef MESHD_MAX_SPLICE_READERS
#define MESHD_MAX_SPLICE_READERS 4096
#endif

/* Endpoints, of each cluster that they are in, that are judged by their answers. */
#ifndef MESHD_MAX_JUDGED
#define MESHD_MAX_JUDGED 65536
#endif

/* Rows of the requests map: service, route, cluster, caller, method and status that met. */
#ifndef MESHD_MAX_REQUEST_ROWS
#define MESHD_MAX_REQUEST_ROWS 65536
#endif

/* Rows of the upcalls map: service and reason. */
#ifndef MESHD_MAX_UPCALL_ROWS
#define MESHD_MAX_UPCALL_ROWS 65536
#endif

/* A request's head that is longer is the proxy's. The verifier walks this many steps. */
#ifndef MESHD_MAX_REQUEST_HEAD
#define MESHD_MAX_REQUEST_HEAD 2048
#endif

/* The same of a response's head. */
#ifndef MESHD_MAX_RESPONSE_HEAD
#define MESHD_MAX_RESPONSE_HEAD 1024
#endif

/* Redirected bytes are held back by no window: what a reader that lags leaves in the kernel is
 * bounded by these, for each body.
 */
#ifndef MESHD_MAX_REQUEST_BODY
#define MESHD_MAX_REQUEST_BODY (2 << 20)
#endif
#ifndef MESHD_MAX_RESPONSE_BODY
#define MESHD_MAX_RESPONSE_BODY (2 << 20)
#endif
/* After so many redirected bytes a socket's queue is looked at. While it is not empty its requests
 * are the proxy's.
 */
#ifndef MESHD_MAX_REDIRECTED
#define MESHD_MAX_REDIRECTED (8 << 20)
#endif
/* What the kernel keeps for a message beside its bytes. */
#define MESSAGE_OVERHEAD 1024

/* Headers and payloads of a spliced connection that one call of a program passes over; it is called
 * again for what comes after them.
 */
#ifndef MESHD_MAX_SPLICED_STEPS
#define MESHD_MAX_SPLICED_STEPS 128
#endif

/* To another node the bytes go into U's send buffer, which may not overflow. */
#ifndef MESHD_MAX_REMOTE_REQUEST_BODY
#define MESHD_MAX_REMOTE_REQUEST_BODY (16 << 10)
#endif
/* From there they go into C's receive buffer (tcp_rmem, 128 KiB by default). What has no room in it
 * waits outside of TCP's stream, where a FIN passes it, and is tried again a clock tick later
 * (sk_psock_backlog).
 */
#ifndef MESHD_MAX_REMOTE_RESPONSE_BODY
#define MESHD_MAX_REMOTE_RESPONSE_BODY (48 << 10)
#endif

/* A connection that waited for longer may be the one that its server closes now: the proxy, which
 * can send a request again, takes the next one.
 */
#ifndef MESHD_MAX_QUIET_NS
#define MESHD_MAX_QUIET_NS 1000000000ULL
#endif

/* With its key and what the kernel puts before it, 80 bytes, a flow's record that has a piece in it
 * fills one of the kernel's objects of 1024 bytes, as it would without, and a later piece one of
 * 512.
 */
#define KEPT_PIECE_BYTES 336
/* Those of a request of MESHD_MAX_REQUEST_HEAD bytes. */
#define MAX_KEPT_PIECES ((MESHD_MAX_REQUEST_HEAD + KEPT_PIECE_BYTES - 1) / KEPT_PIECE_BYTES)

/* Longest path of a request, without its query, and of a route. */
#define MAX_PATH_BYTES 256
/* Path elements at which a prefix route may end. */
#define MAX_PREFIX_ELEMENTS 8
/* Routes that may take the requests of one path, in their order. */
#define MAX_CANDIDATES	    4
#define MAX_ROUTE_CLUSTERS  4
#define MAX_CONDITIONS	    2
#define MAX_CONDITION_BYTES 32
/* Header names that a service's routes ask for. */
#define MAX_INDEXED_HEADERS   4
#define MAX_HEADER_NAME_BYTES 32
/* Upstream connections of one flow, and its entries for endpoints that it has no connection to. */
#define MAX_FLOW_UPSTREAMS	16
#define MAX_FORWARDED_FOR_BYTES 64
/* As a rule set's log_below: it does not say which share of the requests is logged. */
#define ALL_DRAWS 0xffffffffU
/* Upper bounds as of meshd.model.wire.LATENCY_BUCKETS, and one more for the rest. */
#define LATENCY_BUCKETS 16

#define AF_INET	    2
#define AF_INET6    10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6

#define EEXIST	     17
#define ECONNREFUSED 111

/* The loopback device has this index in every network namespace (kernel 2.6.39 and later). */
#define LOOPBACK_IFINDEX 1

#endif
