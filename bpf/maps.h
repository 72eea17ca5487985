/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps. All are pinned and outlive the agent; a new version of the programs takes over each map
 * whose layout it shares (meshd/datapath/loading/load.py).
 */
#ifndef MESHD_MAPS_H
#define MESHD_MAPS_H

#include "consts.h"
#include "types/address.h"
#include "types/arming.h"
#include "types/connection.h"
#include "types/counts.h"
#include "types/flow.h"
#include "types/head.h"
#include "types/joined.h"
#include "types/judged.h"
#include "types/member.h"
#include "types/origin.h"
#include "types/rules.h"
#include "types/service.h"
#include "types/settings.h"
#include "types/spliced.h"
#include "types/splice_reader.h"
#include "types/upcall.h"

/* netns cookie -> the workload in it. What is not in here is never touched. */
BPF_F_TABLE("hash", u64, struct member, members, MESHD_MAX_MEMBERS, BPF_F_NO_PREALLOC);

/* address of a workload of this node -> its netns cookie. */
BPF_F_TABLE("hash", struct home_address, u64, homes, MESHD_MAX_MEMBERS * 4, BPF_F_NO_PREALLOC);

/* VIP and port -> service. */
BPF_F_TABLE("hash", struct address_port, struct service, services, MESHD_MAX_SERVICES,
	BPF_F_NO_PREALLOC);

/* service, generation, slot -> endpoint. An endpoint has as many slots as its weight asks for. */
BPF_F_TABLE("hash", struct endpoint_key, struct address_port, endpoints, MESHD_MAX_ENDPOINTS,
	BPF_F_NO_PREALLOC);

/* client's end of a captured connection -> what the kernel knows of it. An entry lives as long as
 * the client's socket is connected.
 */
BPF_F_TABLE("hash", struct flow_key, struct flow, flows, MESHD_MAX_FLOWS, BPF_F_NO_PREALLOC);

/* 0 -> a flow of which nothing is known yet: all zeros, for it is too large for a program's stack.
 */
BPF_F_TABLE("array", u32, struct flow, blank_flow, 1, 0);

/* client's end of a captured connection and a number -> that piece of the request that the kernel
 * carries for it, or carried last, beyond the first one. An entry lives as long as the flow's.
 */
BPF_F_TABLE(
	"hash", struct kept_key, struct kept_piece, kept, MESHD_MAX_KEPT_PIECES, BPF_F_NO_PREALLOC);

/* 0 -> a piece of nothing. */
BPF_F_TABLE("array", u32, struct kept_piece, blank_piece, 1, 0);

/* client's end of a captured connection -> what the proxy decided for it. */
BPF_F_TABLE("hash", struct flow_key, struct arming, armed, MESHD_MAX_FLOWS, BPF_F_NO_PREALLOC);

/* both ends of an upstream connection -> what the kernel knows of it, as long as U is connected. */
BPF_F_TABLE("hash", struct connection_key, struct connection, connections, MESHD_MAX_CONNECTIONS,
	BPF_F_NO_PREALLOC);

/* cookie of a socket in one of the maps below -> sequence number after the last byte that came. */
BPF_F_TABLE("hash", u64, u32, arrivals, MESHD_MAX_FLOWS + MESHD_MAX_CONNECTIONS, BPF_F_NO_PREALLOC);

/* fingerprint of a service's rules -> what is common to them. They are in force, for all callers or
 * for those of one namespace, while they are in here. No other service can have them: the
 * fingerprint is of the service's addresses, too.
 */
BPF_F_TABLE("hash", u64, struct rule_set, rule_sets, MESHD_MAX_SERVICES, BPF_F_NO_PREALLOC);

/* rules and path -> the routes of that path. */
BPF_F_TABLE("hash", struct path_key, struct path_routes, paths, MESHD_MAX_PATHS, BPF_F_NO_PREALLOC);

/* what requests had in common -> how many the kernel carried on this CPU. */
BPF_F_TABLE("percpu_hash", struct request_row, struct request_count, requests,
	MESHD_MAX_REQUEST_ROWS, BPF_F_NO_PREALLOC);

/* 0 -> a count of nothing. */
BPF_F_TABLE("array", u32, struct request_count, blank_count, 1, 0);

/* service and reason -> upcalls on this CPU. */
BPF_F_TABLE(
	"percpu_hash", struct upcall_row, u64, upcalls, MESHD_MAX_UPCALL_ROWS, BPF_F_NO_PREALLOC);

/* endpoint whose answers are judged -> the good ones; entered by the agent. */
BPF_F_TABLE("hash", struct judged_endpoint, struct good_answers, judged, MESHD_MAX_JUDGED,
	BPF_F_NO_PREALLOC);

/* 0 -> an answer of nothing. User space knows by it what comes in the agent's ring buffer. */
BPF_F_TABLE("array", u32, struct bad_answer, blank_answer, 1, 0);

/* client socket -> the destination that it asked for; freed by the kernel with the socket. */
BPF_F_TABLE("sk_storage", int, struct origin, origins, 0, BPF_F_NO_PREALLOC);

/* worker -> CLOCK_MONOTONIC of its last beat, in nanoseconds; 0: never. */
BPF_F_TABLE("array", u32, u64, heartbeat, MESHD_MAX_WORKERS, 0);

/* No map of its own: what the ring buffers are like. */
BPF_F_TABLE("ringbuf", int, int, bell, MESHD_BELL_BYTES, 0);

/* worker -> its ring buffer of keys of connections that need it; entered by the proxy. AGENT_BELL
 * -> the agent's, of struct bad_answer; SPLICE_BELL -> the agent's, of nothing: it looks into
 * splice_readers.
 */
BPF_ARRAY_OF_MAPS(bells, "bell", MESHD_MAX_WORKERS + 2);

/* socket that was read by splice(2) while it was in a map -> when, by CLOCK_MONOTONIC in ns. The
 * agent takes it out before it sees to it.
 */
BPF_F_TABLE("lru_hash", struct splice_reader, u64, splice_readers, MESHD_MAX_SPLICE_READERS, 0);

/* both ends of an upstream connection to another node -> the worker whose bell to ring for it;
 * entered by the proxy, and removed when U is closed.
 */
BPF_F_TABLE("hash", struct connection_key, u32, owners, MESHD_MAX_CONNECTIONS, BPF_F_NO_PREALLOC);

/* 0 -> settings. */
BPF_F_TABLE("array", u32, struct settings, settings, 1, 0);

/* 0 -> counters of this CPU; 1 -> what they were under an earlier layout, written by user space. */
BPF_F_TABLE("percpu_array", u32, struct stats, stats, 2, 0);

/* client's end of a captured connection that is spliced -> the upstream connection that it is
 * spliced with; entered by the proxy.
 */
BPF_F_TABLE("hash", struct flow_key, struct connection_key, spliced_flows, MESHD_MAX_SPLICED,
	BPF_F_NO_PREALLOC);

/* an upstream connection that is spliced -> what the proxy decided for it. Likewise, what the
 * kernel does on it. Both are entered by the proxy, and removed when U is closed.
 */
BPF_F_TABLE("hash", struct connection_key, struct spliced_arming, spliced_armed, MESHD_MAX_SPLICED,
	BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct connection_key, struct spliced, spliced, MESHD_MAX_SPLICED,
	BPF_F_NO_PREALLOC);

/* end of a joined connection -> its progress, as long as its socket is connected. */
BPF_F_TABLE(
	"hash", struct ends, struct joined_end, joined_ends, MESHD_MAX_JOINED, BPF_F_NO_PREALLOC);

/* end of a joined connection -> its socket. */
BPF_SOCKHASH(joined, struct ends, MESHD_MAX_JOINED);

/* client's end of a captured connection -> its socket (C). */
BPF_SOCKHASH(clients, struct flow_key, MESHD_MAX_FLOWS);

/* both ends of an upstream connection -> the server's socket (S), where it is on this node. */
BPF_SOCKHASH(servers, struct connection_key, MESHD_MAX_CONNECTIONS);

/* the same -> the proxy's socket (U), where the server is on another node; entered by the proxy. */
BPF_SOCKHASH(upstreams, struct connection_key, MESHD_MAX_CONNECTIONS);

#endif
