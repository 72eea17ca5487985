/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent has set for the node. */
#ifndef MESHD_TYPES_SETTINGS_H
#define MESHD_TYPES_SETTINGS_H

/* Written by the agent. */
struct settings {
	__u64 heartbeat_timeout_ns; /* a worker that has not beaten for longer is not alive */
	__u32 mark;		    /* SO_MARK of the proxy's own sockets */
	__u32 plain_mark;	    /* of those whose peers are not to be enrolled */
	__u32 fast_path;	    /* 1: requests may take the fast path */
	__u32 sample;		    /* one in so many requests is an upcall; 0: none */
	__u32 access_log;	    /* 1: requests are logged */
};

#endif
