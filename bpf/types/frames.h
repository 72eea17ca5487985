/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MESHD_TYPES_FRAMES_H
#define MESHD_TYPES_FRAMES_H

#include <linux/types.h>

#define FRAME_HEADER_BYTES 9
#define FRAME_HEADER_ROOM  16 /* a power of two: an index into it is masked */

/* Between which two bytes of one direction of an HTTP/2 connection. */
struct frames {
	__u32 left; /* bytes of a frame's payload, or of the preface, that are to come */
	__u32 have; /* bytes of the next frame's header that have come, in head */
	__u8 head[FRAME_HEADER_ROOM];
	__u32 in_block; /* 1: a header block has begun and not ended */
	__u32 begun;	/* 1: some frame's header has come */
	__u32 highest;	/* the last stream that the client has opened */
	__u32 opened;	/* how many it has, mod 2^32 */
};

#endif
