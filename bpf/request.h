/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What becomes of the bytes that a client sends: carried to a server, or passed up to the proxy. */
#ifndef MESHD_REQUEST_H
#define MESHD_REQUEST_H

#include "connection.h"
#include "divided.h"
#include "flow_state.h"
#include "judged.h"
#include "request_head.h"
#include "request_lines.h"
#include "routes.h"
#include "spliced.h"
#include "tcp.h"
#include "upcalls.h"

/* Sends the next bytes on the flow's connection. False: there is no socket for them. */
static __always_inline bool to_server(struct sk_msg_md *msg, struct flow *flow)
{
	if (flow->remote)
		return upstreams.msg_redirect_hash(msg, &flow->connection, 0) == SK_PASS;
	return servers.msg_redirect_hash(msg, &flow->connection, BPF_F_INGRESS) == SK_PASS;
}

/* The rest of a carried request's body goes where its head went. Once an end of that connection is
 * closing, all of the rest goes up: the proxy may have sent the request again, with what is kept,
 * and else sees by request_left that it is no request.
 */
static __always_inline int carry_body(
	struct sk_msg_md *msg, struct flow *flow, struct flow_key *key, bool divided)
{
	struct connection *connection = connections.lookup(&flow->connection);
	u32 size = msg->size;

	if (!connection || connection->place == PLACE_GONE || !to_server(msg, flow)) {
		flow->given_up = 1;
		return pass_up(msg, key, divided);
	}
	flow->kept = 0;
	if (size > flow->request_left) {
		size = flow->request_left;
		divide(msg, &flow->divided, size);
	}
	flow->request_left -= size;
	connection->redirected += size + MESSAGE_OVERHEAD;
	return SK_PASS;
}

static __always_inline enum upcall may_carry(
	struct sk_msg_md *msg, struct flow *flow, const struct arming *arming)
{
	struct tcp_counts tcp;
	struct flow_counts counts = {
		.consumed = arming->consumed,
		.written = arming->written,
		.requests = flow->requests,
		.responses = flow->responses,
		.adopted = arming->adopted,
	};

	if (flow->pipelines)
		return UPCALL_PIPELINED;
	if (!tcp_counts(msg->sk, &tcp))
		return UPCALL_OFF;
	counts.passed_up = tcp.sent - flow->first_sent;
	counts.arrived = tcp.received - flow->first_received;
	counts.read = tcp.read - flow->first_received;
	switch (flow_state(&counts)) {
	case FLOW_IDLE:
		note_read(&flow->redirected, msg->sk, MESHD_MAX_REDIRECTED);
		return flow->redirected < MESHD_MAX_REDIRECTED ? UPCALL_NONE : UPCALL_SLOW;
	case FLOW_ANSWERING:
		/* For good: an answer's last bytes are on their way for a moment after they have
		 * been counted, and a client that does not wait for them could be sent the next
		 * answer, of another server, before them.
		 */
		flow->pipelines = 1;
		return UPCALL_PIPELINED;
	default:
		return UPCALL_SLOW;
	}
}

static __always_inline enum upcall usable(
	const struct flow_upstream *upstream, const struct connection *connection, u64 now)
{
	if (connection->place == PLACE_GONE)
		return UPCALL_SERVER_GONE;
	if (upstream->kind == UPSTREAM_HERE) {
		if (connection->received != upstream->written || connection->unread ||
			connection->redirected >= MESHD_MAX_REDIRECTED)
			return UPCALL_UNREAD;
	} else if (connection->passed != upstream->consumed) {
		return UPCALL_UNREAD;
	}
	if (kernel_reads(connection))
		return UPCALL_SERVER_GONE; /* its last request was never answered */
	/* Signed: another CPU's clock may be ahead. */
	if ((s64)(now - connection->last_used) > (s64)MESHD_MAX_QUIET_NS)
		return UPCALL_QUIET;
	return UPCALL_NONE;
}

/* Whether a request is one of those that the proxy is to see, to log it. Drawn once for each. */
static __always_inline bool sampled(const struct settings *config, const struct rule_set *set)
{
	if (config->access_log && set->log_below != ALL_DRAWS)
		return bpf_get_prandom_u32() < set->log_below;
	return config->sample && bpf_get_prandom_u32() % config->sample == 0;
}

/* What the head of the text says, in flow->head. Clients mostly send what they have sent before:
 * then that is there already, and the route by these rules, too.
 */
static __always_inline enum upcall read_head(
	struct flow *flow, const struct text *text, const struct rule_set *set, u64 rules)
{
	struct request_head *head = &flow->head;

	head->known = head->rules == rules && is_kept(flow, text);
	if (LOADED(head->known))
		return UPCALL_NONE;
	head->rules = 0;
	return parse_request(text->data, text->end, head, set);
}

static __always_inline enum upcall carry_request(
	struct sk_msg_md *msg, struct flow_key *key, struct flow *flow)
{
	struct settings *config = fast_path_settings();
	struct request_head *head = &flow->head;
	struct candidate *candidate = NULL;
	struct flow_upstream *upstream;
	struct connection *connection;
	const u8 *data, *data_end;
	struct rule_set *set;
	struct arming *arming;
	struct lines lines;
	enum upcall reason;
	struct text text;
	u32 size, looked_at, total, own;
	struct cluster_share share;
	u64 rules, now;

	if (!config || !may_enrol(key->netns))
		return UPCALL_OFF;
	arming = armed.lookup(key);
	if (!arming)
		return UPCALL_NEW;
	if (!arming->rules)
		return UPCALL_SLOW;
	reason = may_carry(msg, flow, arming);
	if (reason)
		return reason;
	rules = arming->rules;
	set = rule_sets.lookup(&rules);
	if (!set)
		return UPCALL_CONFIG;
	if (sampled(config, set))
		return UPCALL_SAMPLED;

	size = msg->size;
	looked_at = size < MESHD_MAX_REQUEST_HEAD ? size : MESHD_MAX_REQUEST_HEAD;
	/* Mostly all of it is in one piece already. */
	if ((u64)(long)msg->data_end - (u64)(long)msg->data < looked_at &&
		bpf_msg_pull_data(msg, 0, looked_at, 0))
		return UPCALL_MEMORY;
	data = (const u8 *)(long)msg->data;
	data_end = (const u8 *)(long)msg->data_end;
	text.data = data;
	text.end = data_end;
	text.size = size;
	reason = read_head(flow, &text, set, rules);
	if (reason)
		return reason;
	if (head->content_length > MESHD_MAX_REQUEST_BODY)
		return UPCALL_BODY;
	reason = route_request(set, rules, head, data, data_end, &candidate);
	if (reason)
		return reason;
	if (!candidate)
		return UPCALL_ROUTE;
	pick_cluster(candidate, &share);
	upstream = pick_upstream(arming, share.cluster);
	if (!upstream)
		return UPCALL_NO_CONNECTION;
	flow->connection = upstream->connection;
	connection = connections.lookup(&flow->connection);
	if (!connection)
		return UPCALL_SERVER_GONE;
	now = bpf_ktime_get_ns();
	reason = usable(upstream, connection, now);
	if (reason)
		return reason;
	if (share.judged && !is_judged(share.cluster, &flow->connection))
		return UPCALL_CONFIG; /* its answer could not be counted */
	flow->remote = upstream->kind == UPSTREAM_REMOTE;
	if (flow->remote) {
		if (head->content_length > MESHD_MAX_REMOTE_REQUEST_BODY)
			return UPCALL_BODY;
		note_read(&flow->redirected, msg->sk, 1);
		if (flow->redirected)
			return UPCALL_SLOW;
	}

	size = msg->size;
	total = head->length + head->content_length;
	own = size < total ? size : total;
	if (!LOADED(head->known))
		flow->kept = 0; /* what was kept is another one's */
	if (!flow->kept && may_be_repeated(head->method)) {
		/* The proxy keeps what came with the head, be it more; here there is no room. */
		if (own > MESHD_MAX_REQUEST_HEAD)
			return UPCALL_BODY;
		flow->kept = own;
		text.data = (const u8 *)(long)msg->data;
		text.end = (const u8 *)(long)msg->data_end;
		text.size = LOADED(flow->kept);
		if (!keep_request(key, flow, &text))
			return UPCALL_MEMORY;
		head->rules = rules; /* head and route are those of what is kept */
	}
	__builtin_memset(flow->request_id, 0, sizeof(flow->request_id));
	plan_lines(&lines, arming, head);
	if (lines.total && !insert_lines(msg, &lines, arming, flow))
		return UPCALL_MEMORY;
	/* On the wire each piece of a message would be a segment of its own. */
	if (flow->remote && lines.total)
		bpf_msg_pull_data(msg, 0, head->length + lines.total, 0);
	if (!to_server(msg, flow)) {
		if (lines.total)
			remove_lines(msg, head->length, lines.total);
		return UPCALL_SERVER_GONE;
	}
	flow->request_left = total - own;
	flow->given_up = 0;
	if (size > own)
		divide(msg, &flow->divided, own + lines.total);
	flow->began = now;
	flow->rules = rules;
	flow->cluster = share.cluster;
	flow->route = candidate->route;
	flow->requests++;
	connection->redirected += own + MESSAGE_OVERHEAD;
	if (!same_flow(&connection->flow, key)) /* seldom, and a look-up reads its line */
		connection->flow = *key;
	connection->carried = 0;
	connection->judged = share.judged;
	connection->response = RESPONSE_HEAD;
	return UPCALL_NONE;
}

/* The bytes from the client that msg begins with. */
static __always_inline int from_client(struct sk_msg_md *msg)
{
	struct flow_key key = {};
	enum upcall reason;
	struct flow *flow;
	bool divided;

	key.netns = bpf_get_netns_cookie(msg);
	SET_LOCAL(&key.client, msg);
	flow = flows.lookup(&key);
	if (!flow)
		return SK_PASS;
	divided = flow->divided;
	flow->divided = 0;
	/* As many bytes as the verdict on the part before was for would else be what this one is
	 * for, even where that reaches into the next message. No condition: the verifier would walk
	 * all that follows for both cases.
	 */
	bpf_msg_apply_bytes(msg, 0);
	if (flow->spliced)
		return from_spliced_client(msg, flow, &key, divided);
	if (flow->request_left && !flow->given_up)
		return carry_body(msg, flow, &key, divided);
	reason = carry_request(msg, &key, flow);
	if (!reason)
		return SK_PASS;
	if (reason == UPCALL_NEW)
		note_splicing(flow, &key);
	if (reason != UPCALL_SLOW)
		flow->reason = reason;
	note_upcall(flow, reason);
	return pass_up(msg, &key, divided);
}

#endif
