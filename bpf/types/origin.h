/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What connect(2) was asked for. */
#ifndef MESHD_TYPES_ORIGIN_H
#define MESHD_TYPES_ORIGIN_H

#include "types/address.h"

/* Where a connection goes whose destination was rewritten. */
enum captured {
	CAPTURED_NOT = 0,     /* to an endpoint */
	CAPTURED_HTTP = 1,    /* to the in-pod listener */
	CAPTURED_RELAYED = 2, /* the same, and the kernel carries none of its bytes */
};

/* What a client socket asked for before its destination was rewritten. */
struct origin {
	struct address_port destination;
	enum captured captured;
	__u32 joined; /* 1: it may be joined with that endpoint's end */
};

#endif
