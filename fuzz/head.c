/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel's parsers of heads as functions of this machine. */
#include <linux/types.h>
#include <string.h>
#include <sys/mman.h>

#define asm __asm__

static inline __u64 load64(const void *at)
{
	__u64 word;

	memcpy(&word, at, sizeof(word));
	return word;
}
#define LOAD64(at) load64(at)

#include "request_head.h"
#include "response_head.h"

_Static_assert(UPCALL_INCOMPLETE == 7 && UPCALL_SYNTAX == 8 && UPCALL_METHOD == 9 &&
		       UPCALL_TARGET == 10 && UPCALL_FIELD == 11 && UPCALL_BODY == 12 &&
		       UPCALL_RESPONSE == 20,
	"fuzz/native.py names the reasons");

#define ROOM (64 << 10)

/* A copy of the message whose end is the end of the memory that may be read. NULL: too long. */
static const u8 *bounded(const u8 *data, u32 size)
{
	static u8 *room;

	if (!room) {
		u8 *mapped = mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (mapped == MAP_FAILED || mprotect(mapped + ROOM, 4096, PROT_NONE))
			return NULL;
		room = mapped;
	}
	if (size > ROOM)
		return NULL;
	memcpy(room + ROOM - size, data, size);
	return room + ROOM - size;
}

int request(const u8 *data, u32 size, struct request_head *head, const struct rule_set *set)
{
	const u8 *copy = bounded(data, size);

	return copy ? (int)parse_request(copy, copy + size, head, set) : -1;
}

int response(const u8 *data, u32 size, struct response_head *head, int to_head_request)
{
	const u8 *copy = bounded(data, size);

	return copy ? parse_response(copy, copy + size, head, to_head_request) : -1;
}

u32 size_of_request_head(void)
{
	return sizeof(struct request_head);
}

u32 size_of_response_head(void)
{
	return sizeof(struct response_head);
}

u32 size_of_rule_set(void)
{
	return sizeof(struct rule_set);
}
