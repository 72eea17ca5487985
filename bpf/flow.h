/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The record of a captured connection, from the handshake to the close of the client's socket. */
#ifndef MESHD_FLOW_H
#define MESHD_FLOW_H

#include "address.h"
#include "kept.h"
#include "maps.h"
#include "stats.h"
#include "tcp.h"

static __always_inline struct settings *fast_path_settings(void)
{
	struct settings *config;
	u32 zero = 0;

	config = settings.lookup(&zero);
	return config && config->fast_path ? config : NULL;
}

/* Whether sockets of this network namespace may be put into a map. */
static __always_inline bool may_enrol(u64 netns)
{
#ifdef SK_BUFF_CB
	struct member *member = members.lookup(&netns);

	return member && member->flags & MEMBER_FAST_PATH;
#else
	return false; /* see arrival.h */
#endif
}

static __always_inline void watch_states(struct bpf_sock_ops *ops)
{
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline struct origin *captured_origin(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct origin *origin;

	if (!sk)
		return NULL;
	origin = origins.sk_storage_get(sk, 0, 0);
	return origin && origin->captured ? origin : NULL;
}

static __always_inline void set_flow_key(struct flow_key *key, struct bpf_sock_ops *ops)
{
	key->netns = bpf_get_netns_cookie(ops);
	SET_LOCAL(&key->client, ops);
	key->zero = 0;
}

static __always_inline void enrol_client(struct bpf_sock_ops *ops, struct flow_key *key)
{
	int error;

	if (!fast_path_settings() || !may_enrol(key->netns))
		return;
	/* Not in the condition: what bcc rewrites this call to ends with a semicolon. */
	error = clients.sock_hash_update(ops, key, BPF_NOEXIST);
	if (error)
		COUNT(enrol_failed);
	else
		COUNT(enrolled);
}

/* The client's handshake is done, and its last segment not yet sent: the proxy cannot have accepted
 * the connection before its record is there.
 */
static __always_inline void open_flow(struct bpf_sock_ops *ops, struct origin *origin)
{
	struct flow_key key;
	struct flow *flow;
	u32 zero = 0;
	int error;

	set_flow_key(&key, ops);
	flow = blank_flow.lookup(&zero);
	if (!flow)
		return;
	error = flows.insert(&key, flow);
	if (error == -EEXIST) /* left by a version of the programs that was detached in between */
		error = flows.update(&key, flow);
	else if (!error)
		COUNT(flows_opened);
	flow = flows.lookup(&key);
	if (error || !flow) {
		COUNT(flows_full);
		return;
	}
	flow->destination = origin->destination;
	flow->first_sent = ops->snd_nxt;
	flow->first_received = ops->rcv_nxt;
	flow->opened = bpf_ktime_get_ns();
	watch_states(ops);
	if (origin->captured == CAPTURED_HTTP)
		enrol_client(ops, &key);
}

static __always_inline bool same_flow(const struct flow_key *a, const struct flow_key *b)
{
	return a->netns == b->netns && same_end(&a->client, &b->client);
}

/* The client sends nothing more, and may wait for its last answer. */
static __always_inline void end_flow(struct bpf_sock_ops *ops)
{
	struct flow_key key;
	struct flow *flow;

	set_flow_key(&key, ops);
	flow = flows.lookup(&key);
	if (flow)
		flow->ended = 1;
}

/* Forgets what was redirected to a socket once it has been read. To be called under its lock. */
static __always_inline void note_read(u32 *redirected, struct bpf_sock *sk, u32 limit)
{
	if (*redirected >= limit && all_read(sk))
		*redirected = 0;
}

/* Another program may have asked for state callbacks of sockets that are not ours. */
static __always_inline void close_flow(struct bpf_sock_ops *ops)
{
	struct flow_key key;

	set_flow_key(&key, ops);
	forget_request(&key);
	spliced_flows.delete(&key);
	if (!flows.delete(&key))
		COUNT(flows_closed);
}

#endif
