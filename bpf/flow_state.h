/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The states of a flow and what they do with the next bytes of the client. Pure: user space
 * compiles this too (tests/datapath/test_flow_state.py).
 *
 * No state is stored. It follows from counters that have one writer each, so that no two programs
 * can disagree about a transition:
 *
 *   body left | caught up | answered | state     | the client's next bytes are
 *   ----------+-----------+----------+-----------+-------------------------------------------
 *   yes       | -         | -        | CARRYING  | carried: the rest of the request's body
 *   no        | no        | -        | SLOW      | passed up: the proxy, or the client, is busy
 *   no        | yes       | no       | ANSWERING | passed up: the client pipelines
 *   no        | yes       | yes      | IDLE      | carried, if they are a request that can be
 *
 * "Busy" is CARRYING or ANSWERING. body left: bytes of the carried request's body have not come
 * yet. caught up: the proxy has consumed all bytes that were passed up, and the client has read all
 * that the proxy sent. answered: each carried request has had its whole answer, or is the proxy's.
 */
#ifndef MESHD_FLOW_STATE_H
#define MESHD_FLOW_STATE_H

enum flow_state {
	FLOW_IDLE = 1,
	FLOW_CARRYING = 2,
	FLOW_ANSWERING = 3,
	FLOW_SLOW = 4,
};

/* All counts mod 2^32. */
struct flow_counts {
	unsigned int passed_up; /* bytes of the client that went to the proxy */
	unsigned int consumed;	/* and those that the proxy has consumed */
	unsigned int written;	/* bytes that the proxy sent to the client */
	unsigned int arrived;	/* and those that came there */
	unsigned int read;	/* and those that the app has read */
	unsigned int requests;	/* carried */
	unsigned int responses; /* carried to their end */
	unsigned int adopted;	/* and those that are the proxy's to answer */
	unsigned long long left;
};

static inline __attribute__((always_inline)) enum flow_state flow_state(const struct flow_counts *c)
{
	if (c->left)
		return FLOW_CARRYING;
	if (c->passed_up != c->consumed || c->arrived != c->written || c->read != c->arrived)
		return FLOW_SLOW;
	if (c->requests != c->responses + c->adopted)
		return FLOW_ANSWERING;
	return FLOW_IDLE;
}

#endif
