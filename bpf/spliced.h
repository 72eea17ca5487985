/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* HTTP/2 between two workloads of this node, of a service that wants its connections spliced: what
 * the client sends goes into the server's queue and back, as with opaque TCP (bpf/joined.h). Only
 * that the two have the proxy between them, which passes on the same bytes when the kernel does
 * not:
 *
 * - A direction changes over from TCP when the proxy has read all that went that way, and the other
 *   end's app all that the proxy sent it; both are known from when that end last sent. Or when
 *   nothing has ever gone that way: so an answer's is mostly the kernel's from its first byte on.
 * - To TCP it goes back at once, for the same reasons, or because the proxy wants the connection
 *   back: to say GOAWAY it must know where a frame ends. So where the frames are is followed here,
 *   and the proxy goes on from there.
 */
#ifndef MESHD_SPLICED_H
#define MESHD_SPLICED_H

#include "divided.h"
#include "flow.h"
#include "frames.h"
#include "tcp.h"

/* Passes over the frames that msg begins with: own->at of its bytes, the last frame's as far as it
 * is there. That is all of them, or as many as MESHD_MAX_SPLICED_STEPS steps take, or none if they
 * cannot be read.
 */
static __always_inline void pass_frames(struct sk_msg_md *msg, struct spliced_way *own)
{
	own->at = 0;
	for (u32 i = 0; i < MESHD_MAX_SPLICED_STEPS; i++) {
		/* Loaded anew each time: the verifier then takes all steps for the same. */
		u32 at = own->at, size = msg->size, part;
		bool is_payload = own->frames.left;

		if (at >= size)
			return;
		part = next_part(&own->frames, size - at);
		/* Not copied unless it is in several pieces, or the app's own pages. */
		if (!is_payload && (bpf_msg_pull_data(msg, at, at + part, 0) ||
					   !pass_header(&own->frames, (const u8 *)(long)msg->data,
						   (const u8 *)(long)msg->data_end, part)))
			return;
		own->at = at + part;
	}
}

/* Notes how far an end has got. received: sequence number of its first byte. False: unknown. */
static __always_inline bool note_end(struct spliced_way *own, const struct spliced_way *other,
	struct bpf_sock *sk, u32 first_received, struct tcp_counts *counts)
{
	u32 redirected = other->redirected;

	if (!tcp_counts(sk, counts))
		return false;
	own->received = counts->received - first_received;
	own->unread = counts->read != counts->received;
	/* Half the bound: see from_joined. */
	if (redirected - own->emptied >= MESHD_MAX_REDIRECTED / 2 && all_read(sk))
		own->emptied = redirected;
	return true;
}

/* Whether the next bytes may go into the other end's queue. sent: how many went by TCP before. */
static __always_inline bool may_splice(struct spliced_way *own, const struct spliced_way *other,
	const struct spliced_arming *arming, bool up, u32 sent)
{
	u32 consumed = up ? arming->from_client : arming->from_server;
	u32 written = up ? arming->to_server : arming->to_client;

	if (arming->leaving || !fast_path_settings() || !may_enrol(arming->flow.netns))
		return false;
	if (own->redirected - other->emptied >= MESHD_MAX_REDIRECTED) {
		if (own->redirecting)
			COUNT(splice_lagged);
		return false;
	}
	if (own->redirecting)
		return true;
	if (sent != consumed || other->received != written || other->unread)
		return false;
	/* Else nothing has gone by TCP since it last ended. */
	if (!own->bytes || own->since != consumed)
		own->frames = up ? arming->up : arming->down;
	own->since = consumed;
	return true;
}

/* The first bytes of msg have been redirected. */
static __always_inline void note_spliced(
	struct sk_msg_md *msg, struct spliced_way *own, u32 *divided, u32 taken, u32 size)
{
	own->redirecting = 1;
	own->redirected += taken + MESSAGE_OVERHEAD;
	own->bytes += taken;
	if (taken < size)
		divide(msg, divided, taken);
}

/* A client sends whose connection the proxy may have spliced since it last did. */
static __always_inline void note_splicing(struct flow *flow, struct flow_key *key)
{
	struct connection_key *connection = spliced_flows.lookup(key);

	if (!connection)
		return;
	flow->connection = *connection;
	flow->spliced = 1;
}

/* The bytes from the client of a spliced connection that msg begins with. */
static __always_inline int from_spliced_client(
	struct sk_msg_md *msg, struct flow *flow, struct flow_key *key, bool divided)
{
	struct connection_key connection_key = flow->connection;
	struct spliced_arming *arming = spliced_armed.lookup(&connection_key);
	struct spliced *record = spliced.lookup(&connection_key);
	struct connection *connection = connections.lookup(&connection_key);
	struct tcp_counts counts;
	struct frames before;
	u32 size = msg->size, taken;
	bool may;

	if (!record)
		return pass_up(msg, key, divided);
	may = note_end(&record->up, &record->down, msg->sk, flow->first_received, &counts) &&
	      arming && connection && connection->place == PLACE_HERE &&
	      may_splice(&record->up, &record->down, arming, true, counts.sent - flow->first_sent);
	if (may) {
		before = record->up.frames;
		pass_frames(msg, &record->up);
		taken = record->up.at;
		if (taken &&
			servers.msg_redirect_hash(msg, &connection_key, BPF_F_INGRESS) == SK_PASS) {
			note_spliced(msg, &record->up, &flow->divided, taken, size);
			return SK_PASS;
		}
		record->up.frames = before; /* the server has just gone */
	}
	record->up.redirecting = 0;
	return pass_up(msg, key, divided);
}

/* The bytes from its server. */
static __always_inline int from_spliced_server(struct sk_msg_md *msg, struct connection *connection,
	struct spliced_arming *arming, struct connection_key *key, bool divided)
{
	struct spliced *record = spliced.lookup(key);
	struct flow_key client = arming->flow;
	struct connection_key *of_client = spliced_flows.lookup(&client);
	struct tcp_counts counts;
	struct frames before;
	u32 size = msg->size, taken;
	bool may;

	if (!record)
		return pass_back(msg, key, divided);
	/* Another client may have come with the address and port of one that is gone. */
	may = note_end(&record->down, &record->up, msg->sk, connection->first_to_server, &counts) &&
	      of_client && same_end(&of_client->proxy, &key->proxy) &&
	      same_end(&of_client->server, &key->server) &&
	      may_splice(&record->down, &record->up, arming, false,
		      counts.sent - connection->first_from_server);
	if (may) {
		before = record->down.frames;
		pass_frames(msg, &record->down);
		taken = record->down.at;
		if (taken && clients.msg_redirect_hash(msg, &client, BPF_F_INGRESS) == SK_PASS) {
			note_spliced(msg, &record->down, &connection->divided, taken, size);
			return SK_PASS;
		}
		record->down.frames = before; /* the client has just gone */
	}
	record->down.redirecting = 0;
	return pass_back(msg, key, divided);
}

#endif
