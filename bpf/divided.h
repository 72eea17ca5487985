/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A message whose bytes do not all go the same way. */
#ifndef MESHD_DIVIDED_H
#define MESHD_DIVIDED_H

#include "maps.h"

/* Redirects the first bytes of a message; the program is then called for the rest. */
static __always_inline void divide(struct sk_msg_md *msg, u32 *divided, u32 taken)
{
	bpf_msg_apply_bytes(msg, taken);
	*divided = 1;
}

/* Lets a client's bytes go on by TCP. The kernel keeps a redirected message's target for the rest
 * of it, and takes "pass" for "redirect there" (sk_psock_msg_verdict, seen in 6.18): so the rest is
 * sent to where it would go.
 */
static __always_inline int pass_up(struct sk_msg_md *msg, struct flow_key *key, bool divided)
{
	return divided ? clients.msg_redirect_hash(msg, key, 0) : SK_PASS;
}

/* The same of a server's. */
static __always_inline int pass_back(
	struct sk_msg_md *msg, struct connection_key *key, bool divided)
{
	return divided ? servers.msg_redirect_hash(msg, key, 0) : SK_PASS;
}

#endif
