/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The record of an upstream connection: made when the proxy's end is established, joined by the
 * server's end where that is on this node too.
 */
#ifndef MESHD_CONNECTION_H
#define MESHD_CONNECTION_H

#include "bell.h"
#include "flow.h"

/* The key of a connection, from a context of its end at the proxy (U) or at the server (S). */
#define SET_KEY_AT_PROXY(key, ctx)                                                                 \
	do {                                                                                       \
		SET_LOCAL(&(key)->proxy, ctx);                                                     \
		SET_REMOTE(&(key)->server, ctx);                                                   \
	} while (0)

#define SET_KEY_AT_SERVER(key, ctx)                                                                \
	do {                                                                                       \
		SET_REMOTE(&(key)->proxy, ctx);                                                    \
		SET_LOCAL(&(key)->server, ctx);                                                    \
	} while (0)

static __always_inline bool is_proxys(struct bpf_sock_ops *ops, const struct settings *config)
{
	struct bpf_sock *sk = ops->sk;

	return sk && config->mark && sk->mark == config->mark;
}

/* Whether the next byte of the answer is the kernel's to carry. */
static __always_inline bool kernel_reads(const struct connection *connection)
{
	return connection->response >= RESPONSE_HEAD && connection->response <= RESPONSE_CHUNK_END;
}

/* U is established. S follows: it gets the segment that ends the handshake only after this. */
static __always_inline void open_connection(struct bpf_sock_ops *ops)
{
	struct settings *config = fast_path_settings();
	struct connection_key key = {};
	struct connection new = {};

	if (!config || !is_proxys(ops, config) || !may_enrol(bpf_get_netns_cookie(ops)))
		return;
	SET_KEY_AT_PROXY(&key, ops);
	new.first_to_server = ops->snd_nxt;
	new.first_from_server = ops->rcv_nxt;
	new.last_used = bpf_ktime_get_ns();
	if (connections.update(&key, &new)) {
		COUNT(connections_full);
		return;
	}
	watch_states(ops);
}

/* S is established. It belongs to U if both agree about two random 32-bit numbers, whatever
 * addresses somebody may have given himself.
 */
static __always_inline void join_connection(struct bpf_sock_ops *ops)
{
	struct connection *connection;
	struct connection_key key = {};
	int error;

	if (!fast_path_settings())
		return;
	SET_KEY_AT_SERVER(&key, ops);
	connection = connections.lookup(&key);
	if (!connection || connection->place != PLACE_ELSEWHERE ||
		connection->first_to_server != ops->rcv_nxt ||
		connection->first_from_server != ops->snd_nxt)
		return;
	if (!may_enrol(bpf_get_netns_cookie(ops)))
		return;
	error = servers.sock_hash_update(ops, &key, BPF_NOEXIST);
	if (error) {
		COUNT(enrol_failed);
		return;
	}
	COUNT(enrolled);
	connection->place = PLACE_HERE;
	watch_states(ops);
}

/* U is closed. */
static __always_inline void close_connection(struct bpf_sock_ops *ops)
{
	struct connection_key key = {};

	SET_KEY_AT_PROXY(&key, ops);
	connections.delete(&key);
	owners.delete(&key);
	spliced_armed.delete(&key);
	spliced.delete(&key);
}

/* An end of an upstream connection, U or S, is being closed by either side: no further request for
 * it. The worker hears of S's close by U's.
 */
static __always_inline void leave_connection(struct bpf_sock_ops *ops)
{
	struct connection *connection;
	struct connection_key key = {};

	SET_KEY_AT_SERVER(&key, ops);
	connection = connections.lookup(&key);
	if (connection) {
		connection->place = PLACE_GONE;
		return;
	}
	SET_KEY_AT_PROXY(&key, ops);
	connection = connections.lookup(&key);
	if (!connection)
		return;
	connection->place = PLACE_GONE;
	ring(&key);
}

#endif
