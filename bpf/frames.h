/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which frame the next bytes of an HTTP/2 connection belong to, whose bytes pass as they are. The
 * same as proxy/spliced/frames.py, which goes on where this stops. Pure: user space compiles it,
 * too (tests/datapath/test_frames.py).
 */
#ifndef MESHD_FRAMES_H
#define MESHD_FRAMES_H

#include "types/frames.h"

/* RFC 9113, 6. */
#define FRAME_HEADERS	   1
#define FRAME_PUSH_PROMISE 5
#define FRAME_CONTINUATION 9
#define FLAG_END_HEADERS   4

static inline __attribute__((always_inline)) __u32 frame_stream(const __u8 *head)
{
	return (__u32)(head[5] & 0x7f) << 24 | (__u32)head[6] << 16 | (__u32)head[7] << 8 | head[8];
}

/* A frame's header is whole: the FRAME_HEADER_BYTES at head. */
static inline __attribute__((always_inline)) void begin_frame(
	struct frames *frames, const __u8 *head)
{
	__u8 type = head[3], ends = head[4] & FLAG_END_HEADERS;
	__u32 stream = frame_stream(head);

	frames->left = (__u32)head[0] << 16 | (__u32)head[1] << 8 | head[2];
	frames->have = 0;
	frames->begun = 1;
	if (type == FRAME_HEADERS || type == FRAME_PUSH_PROMISE)
		frames->in_block = !ends;
	else if (type == FRAME_CONTINUATION && ends)
		frames->in_block = 0;
	/* A client's streams have odd numbers. */
	if (type == FRAME_HEADERS && stream & 1 && stream > frames->highest) {
		frames->highest = stream;
		frames->opened++;
	}
}

/* How many of the size bytes that come are payload, which is passed over, or a whole header, or the
 * next byte of one. Those of a header are then read with pass_header.
 */
static inline __attribute__((always_inline)) __u32 next_part(struct frames *frames, __u32 size)
{
	if (frames->left) {
		__u32 taken = size < frames->left ? size : frames->left;

		frames->left -= taken;
		return taken;
	}
	return !frames->have && size >= FRAME_HEADER_BYTES ? FRAME_HEADER_BYTES : 1;
}

/* Passes over a whole header or a byte of one at data. False: that is not in front of end. */
static inline __attribute__((always_inline)) int pass_header(
	struct frames *frames, const __u8 *data, const __u8 *end, __u32 size)
{
	if (size == FRAME_HEADER_BYTES) {
		if (data + FRAME_HEADER_BYTES > end)
			return 0;
		begin_frame(frames, data);
		return 1;
	}
	if (data + 1 > end)
		return 0;
	frames->head[frames->have & (FRAME_HEADER_ROOM - 1)] = *data;
	frames->have++;
	if (frames->have >= FRAME_HEADER_BYTES)
		begin_frame(frames, frames->head);
	return 1;
}

#endif
