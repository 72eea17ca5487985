/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The record of a captured connection, from the handshake to the close of the client's socket. */
#ifndef MESHD_FLOW_H
#define MESHD_FLOW_H

#include "address.h"
#include "maps.h"
#include "stats.h"

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
	set_local(&key->client, ops);
	key->zero = 0;
}

static __always_inline void enrol(struct bpf_sock_ops *ops, struct flow_key *key)
{
	struct settings *config;
	struct member *member;
	u32 zero = 0;
	int error;

	config = settings.lookup(&zero);
	if (!config || !config->fast_path)
		return;
	member = members.lookup(&key->netns);
	if (!member || !(member->flags & MEMBER_FAST_PATH))
		return;
	/* Not in the condition: what bcc rewrites this call to ends with a semicolon. */
	error = sockets.sock_hash_update(ops, key, BPF_NOEXIST);
	if (error)
		COUNT(enrol_failed);
	else
		COUNT(enrolled);
}

/* The client's handshake is done, and its last segment not yet sent: the proxy cannot have accepted
 * the connection before its record is there.
 */
static __always_inline void open_flow(struct bpf_sock_ops *ops)
{
	struct origin *origin = captured_origin(ops);
	struct flow_key key;
	int error;

	if (!origin)
		return;
	set_flow_key(&key, ops);
	error = flows.insert(&key, &origin->destination);
	if (error == -EEXIST) /* left by a version of the programs that was detached in between */
		error = flows.update(&key, &origin->destination);
	else if (!error)
		COUNT(flows_opened);
	if (error) {
		COUNT(flows_full);
		return;
	}
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	enrol(ops, &key);
}

/* Another program may have asked for state callbacks of sockets that are not ours. */
static __always_inline void close_flow(struct bpf_sock_ops *ops)
{
	struct flow_key key;

	if (!captured_origin(ops))
		return;
	set_flow_key(&key, ops);
	if (!flows.delete(&key))
		COUNT(flows_closed);
}

#endif
